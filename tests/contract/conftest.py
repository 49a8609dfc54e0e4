"""The harnesses, shared by all tests of a kind: each brings objects of its own."""

import shutil
from collections.abc import Iterator

import pytest
from mail_operator.local import observed

from tests.contract.harnesses import SERVER, ClusterHarness, LocalHarness, MemoryHarness, RuntimeHarness
from tests.support.installation import domain, server

HARNESSES: dict[str, type[RuntimeHarness]] = {
    "memory": MemoryHarness,
    "cluster": ClusterHarness,
    "local": LocalHarness,
}


@pytest.fixture(scope="session", params=["memory", "cluster", "local"])
def harness(request: pytest.FixtureRequest) -> Iterator[RuntimeHarness]:
    """One of them, with a server and a domain."""
    if request.param == "local" and shutil.which("dovecot") is None:
        pytest.skip("no Dovecot here: ./run installs it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observed, "_ENDED_SECONDS", 0.5)
        made = HARNESSES[request.param]()
        made.apply(server(), domain("a.test", 7))
        made.start()
        made.wait_for(SERVER, seconds=60)
        yield made
        made.close()


@pytest.fixture
def memory() -> Iterator[MemoryHarness]:
    """The one in memory, for what only it can show; a test starts it."""
    made = MemoryHarness()
    yield made
    made.stop()
