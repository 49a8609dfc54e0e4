"""The pool of mass mailings, on a cluster: the same end-to-end test on both runtimes."""

from collections.abc import Callable

import pytest

from tests.cluster.outside import NEEDED
from tests.local.test_bulk import *  # noqa: F403
from tests.support.installation import Installation

pytestmark = NEEDED


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def identity(module_installation: Installation) -> tuple[dict[str, str], Callable[[], str]]:
    """On a cluster, pods have addresses of their own."""
    return {}, lambda: module_installation.pod("main-bulk-0", 0)[0]
