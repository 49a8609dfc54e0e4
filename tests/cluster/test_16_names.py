"""Names of the server, on a cluster: the same end-to-end test on both runtimes."""

from tests.local.test_names import *  # noqa: F403
