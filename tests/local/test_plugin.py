"""`kubectl mailpods` with a real kubectl, through a pod proxy, to the pods of a real installation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mail_operator.cli import main as cli
from mail_operator.plugin.__main__ import main

from tests.support.hub import Hub
from tests.support.installation import (
    EmbeddedInstallation,
    message,
    wait,
)
from tests.support.podproxy import api_server, kubeconfig, kubectl, pod

pytestmark = pytest.mark.skipif(
    kubectl() is None, reason="no kubectl: install it, or build the one of ./run cluster"
)

POD = "main-smtp-0"


@pytest.fixture(autouse=True)
def only_our_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{kubectl()}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))  # kubectl caches there what it discovers
    monkeypatch.delenv("KUBECONFIG", raising=False)


def admin(installation: EmbeddedInstallation) -> dict[str, str]:
    """Pod -> where it is asked."""
    return {name.partition("/")[0]: url for name, url in installation.state()["queue"].items()}


@pytest.fixture
def cluster(behind: EmbeddedInstallation, tmp_path: Path) -> Iterator[str]:
    """A kubeconfig for a cluster in which the installation's smtp pod runs."""
    with api_server([pod(POD)], admin(behind)) as url:
        yield str(kubeconfig(tmp_path / "kubeconfig", url))


def test_the_queue_is_listed_shown_retried_and_deleted(
    behind: EmbeddedInstallation, hub: tuple[Hub, int], cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def queue(*words: str) -> str:
        assert main(["queue", *words, "--kubeconfig", cluster]) == 0
        return capsys.readouterr().out

    hub[0].refuse = True
    with behind.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "late@sink.test"))
        client.send_message(message("info@a.test", "never@sink.test"))
    waiting = wait(lambda: text if (text := queue()).count("451 4.3.0 not now") == 2 else None)
    assert cli.main(["queue", "--data", str(behind.data)]) == 0
    assert capsys.readouterr().out == waiting
    (id,) = [line.split()[0] for line in waiting.splitlines() if "late@sink.test" in line]
    assert f"{id} in {POD}" in queue("show", "--id", id)
    assert queue("delete", "--address", "never@sink.test") == f"{POD}: 1 recipients are deleted\n"
    assert "1 recipients wait" in queue()
    hub[0].refuse = False
    assert queue("retry", "--domain", "sink.test") == f"{POD}: 1 recipients are tried now\n"
    wait(lambda: "0 recipients wait" in queue())
    assert [envelope.rcpt_tos for _, envelope in hub[0].taken] == [["late@sink.test"]]
    assert main(["queue", "delete", "--kubeconfig", cluster]) == 1
    assert "say what to delete" in capsys.readouterr().err


def test_explain_is_that_of_the_pods(
    behind: EmbeddedInstallation, cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for address in ("info@a.test", "nobody@a.test", "a+b&c@a.test"):
        assert cli.main(["explain", address, "--data", str(behind.data)]) == 0
        said = capsys.readouterr().out
        for words in (["-n", "t", "explain", address], ["explain", address, "-A"]):
            assert main(["--kubeconfig", cluster, *words]) == 0
            assert capsys.readouterr().out == said


def test_a_pod_that_does_not_run_is_named_and_the_others_answer(
    behind: EmbeddedInstallation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods = [pod("main-smtp-1", phase="Pending"), pod(POD), pod("x", namespace="other")]
    with api_server(pods, admin(behind)) as url:
        config = str(kubeconfig(tmp_path / "kubeconfig", url))
        assert main(["queue", "--kubeconfig", config]) == 1
    said = capsys.readouterr()
    assert "recipients wait" in said.out
    assert said.err == "mailpods: main-smtp-1 was not asked: it is Pending\n"


def test_where_there_are_no_pods_the_namespace_is_to_blame(
    cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["-n", "empty"], ["--context", "elsewhere"]):
        assert main(["explain", "info@a.test", *words, "--kubeconfig", cluster]) == 1
        said = capsys.readouterr().err
        assert said.startswith("mailpods: no smtp pods in ") and "-n" in said and said.count("\n") == 1


def test_who_may_only_look_is_told_what_to_ask_for(
    behind: EmbeddedInstallation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server([pod(POD)], admin(behind), allowed=["get"]) as url:
        config = str(kubeconfig(tmp_path / "kubeconfig", url))
        assert main(["queue", "--kubeconfig", config]) == 0
        capsys.readouterr()
        for action, verb in {"retry": "create", "delete": "delete"}.items():
            assert main(["queue", action, "--id", "x", "--kubeconfig", config]) == 1
            assert capsys.readouterr().err == (
                f"mailpods: {POD}: you may not {verb} pods/proxy in namespace t: "
                "have the ClusterRole mail-queue bound to you by a RoleBinding there\n"
            )


def test_without_a_cluster_or_a_kubectl_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    assert main(["queue", "--kubeconfig", str(gone)]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:1" in said and said.count("\n") == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["queue"]) == 1
    assert capsys.readouterr().err == "mailpods: kubectl is not on the PATH: install it\n"


def test_check_is_that_of_the_command_line(
    behind: EmbeddedInstallation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(behind.manifests)]) == cli.main(["check", str(behind.manifests)])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("apiVersion: mailpods.io/v1alpha1\nkind: Mailbox\nmetadata: {name: x}\nspec: {}\n")
    capsys.readouterr()
    assert main(["check", str(wrong)]) == 1
    assert f"{wrong}:" in capsys.readouterr().out
