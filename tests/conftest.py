"""Installations for tests: one that stories share, and fresh ones for those that break things."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hub import HUB, Hub, smarthost
from tests.support.installation import (
    EmbeddedInstallation,
    Installation,
    domain,
    mailbox,
    manifest,
    secret,
    server,
)


@pytest.fixture
def installations() -> Iterator[Callable[[], EmbeddedInstallation]]:
    """Makes installations that end with the test. Their paths are short, for sockets lie there."""
    made: list[tuple[EmbeddedInstallation, Path]] = []

    def make() -> EmbeddedInstallation:
        folder = Path(tempfile.mkdtemp(prefix="mp-"))
        made.append((EmbeddedInstallation(folder), folder))
        return made[-1][0]

    yield make
    for installation, folder in made:
        installation.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def installation() -> Iterator[EmbeddedInstallation]:
    """The installation that stories share; each brings mailboxes of its own."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    installation = EmbeddedInstallation(folder)
    installation.apply(
        "server",
        server(loginForms=["numbered", "address", "generated"]),
        domain("a.test", 7, additionalNames=["a2.test"]),
        domain("b.test", 8),
        manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "limits": {"messageSize": "2M"}}),
    )
    installation.apply("people", mailbox("info"), mailbox("anna"))
    installation.start()
    yield installation
    installation.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def module_installation() -> Iterator[EmbeddedInstallation]:
    """An installation for the stories of one module, which bring the manifests and start it."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    installation = EmbeddedInstallation(folder)
    yield installation
    installation.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hub(module_installation: Installation) -> Iterator[tuple[Hub, int]]:
    """A smarthost, and its port."""
    with smarthost(module_installation.at(HUB)) as running:
        yield running


@pytest.fixture(scope="module")
def behind(module_installation: Installation, hub: tuple[Hub, int]) -> Iterator[Installation]:
    """An installation whose mail for others goes to the smarthost."""
    host = module_installation.at(HUB)
    smarthost = {"host": host, "port": hub[1], "tls": "none", "authSecretRef": {"name": "hub"}}
    outbound = {"mode": "smarthost", "smarthost": smarthost}
    module_installation.govern({"serverRef": {"name": "main"}, "outbound": outbound})
    module_installation.apply("server", server(), domain("a.test", 7))
    module_installation.apply("info", secret("hub", username="global", password="secret"), mailbox("info"))
    module_installation.start()
    module_installation.wait_for("Mailbox", "info")
    module_installation.wait_for("RelayPolicy", "main")
    yield module_installation


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that everybody may pass through; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
