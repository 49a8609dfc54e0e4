"""Signatures, on a cluster: one story, two grounds."""

from tests.cluster.outside import NEEDED
from tests.local.test_dkim import *  # noqa: F403

pytestmark = NEEDED
