"""Mail leaves the house by MX, on a cluster: one story, two grounds."""

from tests.cluster.outside import NEEDED
from tests.local.test_delivery import *  # noqa: F403

pytestmark = NEEDED
