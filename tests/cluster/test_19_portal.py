"""Pages for everybody, on a cluster: the same end-to-end test on both runtimes."""

from tests.local.test_portal import *  # noqa: F403
