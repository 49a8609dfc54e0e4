"""Never an open relay, on a cluster: one story, two grounds."""

import os

import pytest

from tests.local.test_open_relay import *  # noqa: F403

pytestmark = pytest.mark.skipif("MAILPODS_ZONES" not in os.environ, reason="there is no world outside of it")
