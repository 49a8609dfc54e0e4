"""Signatures, on a cluster: the same end-to-end test on both runtimes."""

from tests.cluster.outside import NEEDED
from tests.local.test_dkim import *  # noqa: F403

pytestmark = NEEDED
