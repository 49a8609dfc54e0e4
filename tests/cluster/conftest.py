"""One MailServer on the cluster that KUBECONFIG points at, which all stories share."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.house import NAMESPACE, ClusterHouse, kubectl
from tests.cluster.operator import Operator
from tests.support.installation import domain, mailbox, manifest, server

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The running operator."""
    assert "KUBECONFIG" in os.environ, "these tests need a cluster: run them by ./run test-cluster"
    kubectl("apply", "--server-side", "-f", str(CRDS))
    for name in ("mailpods-system", NAMESPACE):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    running = Operator(tmp_path_factory.mktemp("operator") / "log")
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="session")
def house(operator: Operator) -> Iterator[ClusterHouse]:
    """The same installation as the embedded stories'."""
    cluster = ClusterHouse()
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
