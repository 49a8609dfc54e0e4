"""Rules of a RelayPolicy about strangers, on a cluster: one story, two grounds."""

from tests.cluster.outside import NEEDED
from tests.local.test_policy import *  # noqa: F403

pytestmark = NEEDED
