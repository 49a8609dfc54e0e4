"""Names of the server, on a cluster: one story, two grounds."""

from tests.local.test_names import *  # noqa: F403
