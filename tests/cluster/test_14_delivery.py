"""Mail leaves the installation by MX, on a cluster: the same end-to-end test on both runtimes."""

from tests.cluster.outside import NEEDED
from tests.local.test_delivery import *  # noqa: F403

pytestmark = NEEDED
