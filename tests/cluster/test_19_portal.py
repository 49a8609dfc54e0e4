"""Pages for everybody, on a cluster: one story, two grounds."""

from tests.local.test_portal import *  # noqa: F403
