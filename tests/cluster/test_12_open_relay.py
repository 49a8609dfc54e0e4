"""Never an open relay, on a cluster: one story, two grounds."""

from tests.cluster.outside import NEEDED
from tests.local.test_open_relay import *  # noqa: F403

pytestmark = NEEDED
