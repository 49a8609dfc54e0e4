"""One MailServer on the cluster that KUBECONFIG points at, which all stories share."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster import flows
from tests.cluster.flows import Recording
from tests.cluster.installation import (
    NAMESPACE,
    ClusterInstallation,
    LonelyInstallation,
    kubectl,
    make_namespace,
)
from tests.cluster.operator import NAMESPACE as OPERATOR_NAMESPACE
from tests.cluster.operator import Operator
from tests.support.installation import domain, mailbox, manifest, server


@pytest.fixture(scope="session")
def operator() -> Iterator[Operator]:
    """The running operator, installed by Helm."""
    assert "KUBECONFIG" in os.environ, "these tests need a cluster: run them by ./run test-cluster"
    for name in (OPERATOR_NAMESPACE, NAMESPACE):
        make_namespace(name)
    running = Operator()
    running.install()
    yield running
    running.uninstall()


@pytest.fixture(scope="session", autouse=True)
def recording() -> Iterator[Recording | None]:
    """Who spoke to whom, from the first story on."""
    if "MAILPODS_NETNS" not in os.environ:
        yield None
        return
    with flows.recording() as running:
        yield running


@pytest.fixture(scope="session")
def installation(operator: Operator) -> Iterator[ClusterInstallation]:
    """The same installation as the embedded stories'."""
    cluster = ClusterInstallation()
    cluster.apply(
        "server",
        server(loginForms=["numbered", "address", "generated"], storage={"size": "1Gi", "spoolSize": "1Gi"}),
        domain("a.test", 7, additionalNames=["a2.test"]),
        domain("b.test", 8),
        manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "limits": {"messageSize": "2M"}}),
    )
    cluster.apply("people", mailbox("info"), mailbox("anna"))
    cluster.wait_for("MailServer", "main", seconds=120)
    cluster.wait_for("Mailbox", "anna")
    yield cluster
    kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=90s")


@pytest.fixture(scope="module")
def module_installation(operator: Operator, request: pytest.FixtureRequest) -> Iterator[LonelyInstallation]:
    """An installation for the stories of one module, which bring the manifests and start it."""
    made = LonelyInstallation(request.module.__name__.rpartition(".")[2].replace("_", "-"))
    yield made
    made.stop()
