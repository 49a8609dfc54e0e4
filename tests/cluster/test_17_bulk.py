"""The pool of mass mailings, on a cluster: one story, two grounds."""

from collections.abc import Callable

import pytest

from tests.cluster.outside import NEEDED
from tests.local.test_bulk import *  # noqa: F403
from tests.support.installation import House

pytestmark = NEEDED


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def identity(module_installation: House) -> tuple[dict[str, str], Callable[[], str]]:
    """On a cluster, pods have addresses of their own."""
    return {}, lambda: module_installation.pod("main-bulk-0", 0)[0]
