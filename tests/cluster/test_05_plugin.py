"""`kubectl mailpods` on a cluster: found by kubectl, with the rights of the chart's ClusterRole."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.installation import NAMESPACE, PLUGIN, ClusterInstallation, kubectl
from tests.support.installation import manifest, message, wait

FAR = "late@sink.invalid"  # a name that never resolves, so that mail to it waits


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(PLUGIN.parent), prepend=":")


def plugin(*words: str) -> subprocess.CompletedProcess[str]:
    """What `kubectl mailpods` says."""
    return subprocess.run(["kubectl", "mailpods", *words], capture_output=True, text=True)


@pytest.fixture
def postmaster(installation: ClusterInstallation, tmp_path: Path) -> Iterator[str]:
    """A kubeconfig of somebody who has the ClusterRole mail-queue in the namespace, and nothing else."""
    kubectl("create", "serviceaccount", "postmaster", "-n", NAMESPACE)
    account = f"--serviceaccount={NAMESPACE}:postmaster"
    kubectl("create", "rolebinding", "postmaster", "-n", NAMESPACE, "--clusterrole=mail-queue", account)
    token = kubectl("create", "token", "postmaster", "-n", NAMESPACE).strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    yield str(path)
    kubectl("delete", "rolebinding,serviceaccount", "postmaster", "-n", NAMESPACE)


def test_kubectl_finds_the_plugin_and_it_explains(installation: ClusterInstallation) -> None:
    said = plugin("explain", "info@a.test", "-n", NAMESPACE)
    assert said.returncode == 0, said.stderr
    assert "7/info" in said.stdout
    assert "550 5.1.1" in plugin("explain", "nobody@a.test", "-n", NAMESPACE).stdout


def test_the_postmaster_lists_retries_and_deletes(installation: ClusterInstallation, postmaster: str) -> None:
    def queue(*words: str) -> str:
        said = plugin("queue", *words, "-n", NAMESPACE, "--kubeconfig", postmaster)
        assert said.returncode == 0, said.stderr
        return said.stdout

    nowhere = {"mode": "smarthost", "smarthost": {"host": "127.0.0.1", "port": 9, "tls": "none"}}
    policy = {"serverRef": {"name": "main"}, "outbound": nowhere, "limits": {"messageSize": "2M"}}
    installation.apply("nowhere", manifest("RelayPolicy", "nowhere", policy))
    installation.wait_for("RelayPolicy", "nowhere")
    with installation.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", FAR))
    wait(lambda: FAR in queue(), 30, "the message is not in the queue")
    assert f"to         {FAR}" in queue("show", "--address", FAR)
    assert ": 1 recipients" in queue("retry", "--address", FAR)
    assert ": 1 recipients" in queue("delete", "--address", FAR)
    wait(lambda: FAR not in queue(), 30, "the message is still in the queue")
    installation.remove("nowhere")


def test_who_has_no_right_is_told_which_role_gives_it(
    installation: ClusterInstallation, postmaster: str
) -> None:
    kubectl("delete", "rolebinding", "postmaster", "-n", NAMESPACE)
    try:
        end = time.monotonic() + 20
        while (said := plugin("queue", "-n", NAMESPACE, "--kubeconfig", postmaster)).returncode == 0:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert "mail-queue" in said.stderr and said.stderr.count("\n") == 1
    finally:
        account = f"--serviceaccount={NAMESPACE}:postmaster"
        kubectl("create", "rolebinding", "postmaster", "-n", NAMESPACE, "--clusterrole=mail-queue", account)
