"""`mailpods check` and `mailpods render`: each mistake is one line with file, line, field and remedy."""

import json
import os
from pathlib import Path

import pytest
import yaml
from mail_operator.cli import main as cli
from mail_operator.local.manifests import Manifests
from mail_operator.local.observed import ObservedState
from mail_operator.local.state import State

GOOD = """\
apiVersion: mailpods.io/v1alpha1
kind: MailServer
metadata: {name: main}
spec: {hostname: mail.a.test}
---
apiVersion: mailpods.io/v1alpha1
kind: MailDomain
metadata: {name: a-test}
spec: {domainName: a.test, serverRef: {name: main}, number: 7}
---
apiVersion: mailpods.io/v1alpha1
kind: Mailbox
metadata: {name: info}
spec: {domainRef: {name: a-test}}
"""
INFO = """\
apiVersion: mailpods.io/v1alpha1
kind: Mailbox
metadata: {name: anna}
spec:
  domainRef: {name: a-test}
"""


DOMAIN = """\
apiVersion: mailpods.io/v1alpha1
kind: MailDomain
metadata: {name: b-test}
spec:
  domainName: b.test
  serverRef: {name: main}
  number: 8
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: pw}
"""
KUSTOMIZATION = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [all.yaml]\n"


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = cli.main(["check", str(folder)])
    return status, capsys.readouterr().out.splitlines()


def test_good_manifests_have_no_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    assert check(tmp_path, capsys) == (0, [])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (INFO + "  qouta: 2Gi\n", 6, ["spec.qouta", "no such field", "did you mean quota?"]),
        (INFO + "  quota: [1]\n", 6, ["spec.quota", "string"]),
        (
            INFO + "  services:\n    imap: home\n",
            7,
            ["spec.services.imap", "'everywhere', 'lan' or 'disabled'"],
        ),
        (INFO + "  localPart: jürgen\n", 6, ["spec.localPart", "without accents"]),
        (INFO + f"  localPart: {'x' * 65}\n", 6, ["spec.localPart", "at most 64"]),
        (INFO + "  localPart: info\n", 1, ["AddressTaken", "info@a.test", "choose another localPart"]),
        (INFO.partition("spec:")[0] + "spec:\n", 4, ["spec", "None"]),
        (INFO.partition("spec:")[0] + "spec: text\n", 4, ["spec", "'text'"]),
        (INFO + "  displayName: " + "[" * 2000 + "]" * 2000 + "\n", 6, ["spec.displayName", "no string"]),
        (SECRET + "data: {password: é}\n", 4, ["data", "base64", "stringData"]),
        (SECRET + "stringData: {password: 12345}\n", 4, ["stringData", "quotes"]),
        (INFO + "  shard: '1'\n", 6, ["spec.shard", "no whole number"]),
        (INFO + "  services:\n    groupware: 1\n", 7, ["spec.services.groupware", "true or false"]),
        (INFO + "  passwordHash: '{FOO}abc'\n", 6, ["spec.passwordHash", "Dovecot's schemes"]),
        (DOMAIN + "  autoconfig: true\n", 8, ["spec.autoconfig", "no effect in this version"]),
        (INFO + "  sieve: keep;\n", 6, ["spec.sieve", "no effect in this version", "R-002-14"]),
        (INFO + "  passwordSecretRef: {name: pw}\n", 1, ["SecretMissing", "pw"]),
        (
            INFO.replace("a-test", "b-test"),
            5,
            ["spec.domainRef", "DomainMissing", "b-test", "create it, or correct"],
        ),
        (INFO.replace("Mailbox", "Mailboxes"), 2, ["kind", "Mailboxes is no kind", "Mailbox"]),
        (INFO.replace("v1alpha1", "v2"), 1, ["apiVersion", "mailpods.io/v1alpha1"]),
        (
            INFO.replace("name: anna", "name: info"),
            1,
            ["Mailbox default/info stands already in", "remove one"],
        ),
        (INFO + "  quota: 1Gi\n  quota: 2Gi\n", 7, ["'quota' stands twice"]),
        (INFO + " quota: 1Gi\n", 6, ["is not YAML"]),
        ("just: text\n", 1, ["metadata"]),
        (
            "apiVersion: mailpods.io/v1alpha1\nkind: MailDomain\nmetadata: {name: b}\n"
            "spec: {domainName: b.test, serverRef: {name: main}, number: 7}\n",
            4,
            ["spec.number", "NumberTaken", "MailDomain default/a-test", "leave spec.number blank"],
        ),
        (
            "apiVersion: mailpods.io/v1alpha1\nkind: MailAlias\nmetadata: {name: loop}\n"
            "spec: {domainRef: {name: a-test}, targets: [{address: loop@a.test}]}\n",
            1,
            ["AliasCycle", "loop@a.test", "remove one of these targets"],
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: pw}\ndata: {password: '!'}\n---\n"
            + INFO
            + "  passwordSecretRef: {name: pw}\n",
            4,
            ["data", "base64"],
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_file_line_and_remedy(
    text: str, line: int, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "wrong.yaml").write_text(text)
    status, findings = check(tmp_path, capsys)
    assert status == 1
    (finding,) = [f for f in findings if all(word in f for word in words)]
    assert finding.startswith(f"{tmp_path / 'wrong.yaml'}:{line}: "), finding
    assert all(str(tmp_path / "wrong.yaml") in f for f in findings), findings


def test_render_prints_the_objects_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    assert cli.main(["render", str(tmp_path)]) == 0
    objects = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {"StatefulSet", "Secret", "Service"} <= {each["kind"] for each in objects}
    assert {o["metadata"]["name"] for o in objects if o["kind"] == "StatefulSet"} == {
        "main-smtp",
        "main-store",
    }


@pytest.mark.parametrize("command", ["check", "render", "up"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none", None, ["no such file or folder"]),
        ("all.txt", "kind: Mailbox", ["no manifest of mail is here", "*.yaml", "mailpods.io/v1alpha1"]),
        ("web.yaml", KUSTOMIZATION, ["web.yaml:2: kind: Kustomization", "skipped", "no manifest of mail"]),
    ],
)
def test_a_folder_without_manifests_is_said(
    command: str,
    name: str,
    content: str | None,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_mail_user", lambda: None)  # who may not enter pytest's folders
    folder = tmp_path / "manifests"
    if content:
        folder.mkdir()
        (folder / name).write_text(content)
    data = ["--data", str(tmp_path / "data"), "--free-ports"] if command == "up" else []
    assert cli.main([command, str(folder), *data]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_kinds_of_others_are_skipped_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    (tmp_path / "all.yaml").write_text(f"{KUSTOMIZATION}{web}---\n{GOOD}")
    assert cli.main(["check", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "3 objects, 0 findings" in err
    assert f"{tmp_path / 'all.yaml'}:2: kind: Kustomization (kustomize.config.k8s.io/v1beta1) is none" in err
    assert f"{tmp_path / 'all.yaml'}:6: kind: Deployment (apps/v1) is none of mail's kinds: skipped" in err


@pytest.mark.parametrize(
    ("word", "said"), [("off", "off, which YAML reads as false, is taken"), ("'off'", "off is taken")]
)
def test_a_word_of_before_is_taken_with_a_hint(
    word: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(f"{GOOD}---\n{INFO}  services: {{pop3: {word}}}\n")
    assert cli.main(["check", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and f":21: spec.services.pop3: {said} for disabled: write disabled" in err


def test_a_pipe_in_a_folder_is_skipped_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    os.mkfifo(tmp_path / "pipe.yaml")
    assert cli.main(["check", str(tmp_path)]) == 0
    assert f"{tmp_path / 'pipe.yaml'}:1: is no regular file: skipped" in capsys.readouterr().err


@pytest.mark.parametrize("password", ['"two\\nlines"', '"tab\\there"', f'"{"x" * 1001}"', '"line\\n"'])
def test_a_password_that_nobody_can_use_is_a_finding(
    password: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = f"{SECRET}stringData: {{password: {password}}}\n---\n{INFO}  passwordSecretRef: {{name: pw}}\n"
    (tmp_path / "all.yaml").write_text(f"{GOOD}---\n{secret}")
    status, (finding,) = check(tmp_path, capsys)
    assert status == 1 and "Secret default/pw: key password" in finding


# --- while it runs


@pytest.fixture
def observed(tmp_path: Path) -> ObservedState:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "all.yaml").write_text(GOOD)
    observed = ObservedState(Manifests([tmp_path / "manifests"]), State(hash_key="00"))
    observed.refresh()
    assert len(observed.snapshot.objects) == 3 and not observed.problems
    return observed


def test_an_emptied_folder_changes_nothing(observed: ObservedState, tmp_path: Path) -> None:
    before = observed.snapshot
    (tmp_path / "manifests" / "all.yaml").unlink()
    assert observed.refresh()
    assert observed.snapshot is before
    (problem,) = observed.problems
    assert "nothing was changed" in problem.message and "put one back" in problem.message
    (tmp_path / "manifests" / "all.yaml").write_text(GOOD)
    observed.refresh()
    assert not observed.problems


def test_a_folder_that_cannot_be_read_changes_nothing(observed: ObservedState, tmp_path: Path) -> None:
    os.rename(tmp_path / "manifests", tmp_path / "away")
    observed.refresh()
    assert len(observed.snapshot.objects) == 3
    assert "cannot be read" in observed.problems[0].message
    os.rename(tmp_path / "away", tmp_path / "manifests")
    observed.refresh()
    assert not observed.problems


def test_a_broken_edit_keeps_the_last_valid_version(observed: ObservedState, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "all.yaml").write_text(GOOD.replace("number: 7", "number: seven"))
    observed.refresh()
    (domain,) = [r for ref, r in observed.snapshot.objects.items() if ref.kind == "MailDomain"]
    assert domain.spec.number == 7  # type: ignore[attr-defined]
    assert observed.problems[0].field == "spec.number"


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("domainRef: {name: a-test}", "domainRef: {name: b-test}"), "spec.domainRef"),
        (("domainRef: {name: a-test}", "domainRef: {name: a-test}, localPart: anna"), "spec.localPart"),
        (("number: 7", "number: 8"), "spec.number"),
        ((", number: 7", ""), "spec.number"),
    ],
)
def test_what_is_immutable_in_a_cluster_is_so_here(
    observed: ObservedState, tmp_path: Path, change: tuple[str, str], field: str, restarted: bool
) -> None:
    before = observed.snapshot.objects
    (tmp_path / "manifests" / "all.yaml").write_text(GOOD.replace(*change))
    if restarted:
        manifests = Manifests([tmp_path / "manifests"])
        observed = ObservedState(manifests, State(hash_key="00"), last_good=observed.last_good())
    observed.refresh()
    (problem,) = observed.problems
    assert (problem.field, problem.message) == (field, "cannot be changed: create a new object")
    assert observed.snapshot.objects == before


@pytest.mark.parametrize("broken", ["just a string\n", "spec: [\n", "a: [1, 2\n"])
def test_one_bad_document_leaves_the_others_of_its_file_as_they_are(
    observed: ObservedState, tmp_path: Path, broken: str
) -> None:
    edited = GOOD.replace("number: 7", "number: 7, catchAll: info@a.test").replace("name: info", "name: anna")
    (tmp_path / "manifests" / "all.yaml").write_text(f"{edited}---\n{broken}")
    observed.refresh()
    assert len(observed.problems) == 1
    names = {ref.name for ref in observed.snapshot.objects}
    assert names == {"main", "a-test", "info", "anna"}  # who knows whether info was the broken one
    (domain,) = [r for ref, r in observed.snapshot.objects.items() if ref.kind == "MailDomain"]
    assert domain.spec.catch_all == "info@a.test"  # type: ignore[attr-defined]


def test_a_file_cut_to_nothing_keeps_what_it_held_until_it_is_deleted(
    observed: ObservedState, tmp_path: Path
) -> None:
    (tmp_path / "manifests" / "more.yaml").write_text(INFO)
    observed.refresh()
    (tmp_path / "manifests" / "more.yaml").write_text("")
    observed.refresh()
    assert len(observed.snapshot.objects) == 4 and "is empty" in observed.problems[0].message
    (tmp_path / "manifests" / "more.yaml").unlink()
    observed.refresh()
    assert len(observed.snapshot.objects) == 3 and not observed.problems


def test_one_of_several_folders_that_is_emptied_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text(GOOD)
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "anna.yaml").write_text(INFO)
    observed = ObservedState(
        Manifests([tmp_path / "server.yaml", tmp_path / "tenants"]), State(hash_key="00")
    )
    observed.refresh()
    (tmp_path / "tenants" / "anna.yaml").unlink()
    observed.refresh()
    assert len(observed.snapshot.objects) == 4
    assert "no manifest is left" in observed.problems[0].message


@pytest.mark.parametrize(
    "broken", [GOOD.replace("domainRef", "domainReff"), f"{GOOD}---\n[", GOOD.partition("---")[0] + "---\n{"]
)
def test_a_start_with_a_broken_manifest_goes_on_with_its_last_good_version(
    observed: ObservedState, tmp_path: Path, broken: str
) -> None:
    kept = json.loads(json.dumps(observed.last_good(), default=str))
    (tmp_path / "manifests" / "all.yaml").write_text(broken)
    again = ObservedState(Manifests([tmp_path / "manifests"]), State(hash_key="00"), last_good=kept)
    again.refresh()
    assert again.problems
    assert again.snapshot.objects.keys() == observed.snapshot.objects.keys()
    again.refresh()
    (tmp_path / "manifests" / "all.yaml").write_text(GOOD.rpartition("---")[0])
    again.refresh()
    assert not again.problems
    assert "Mailbox" not in {ref.kind for ref in again.snapshot.objects}  # now it was taken away


def test_a_start_with_a_broken_manifest_reads_what_a_later_version_left(
    observed: ObservedState, tmp_path: Path
) -> None:
    """As after a rollback: what was in force stays, as far as this version understands it."""
    kept = observed.last_good()
    mailbox = kept["Mailbox/default/info"]["content"]
    kept["Mailbox/default/info"]["content"] = {**mailbox, "spec": {**mailbox["spec"], "vacation": {}}}
    (tmp_path / "manifests" / "all.yaml").write_text(
        GOOD.replace("spec: {domainRef", "spec: {new: 1, domainRef")
    )
    again = ObservedState(Manifests([tmp_path / "manifests"]), State(hash_key="00"), last_good=kept)
    again.refresh()
    assert [problem.field for problem in again.problems] == ["spec.new"]
    assert again.snapshot.objects.keys() == observed.snapshot.objects.keys()


def test_a_start_with_an_emptied_folder_goes_on_until_that_is_confirmed(
    observed: ObservedState, tmp_path: Path
) -> None:
    (tmp_path / "manifests" / "all.yaml").unlink()
    manifests = Manifests([tmp_path / "manifests"])
    again = ObservedState(manifests, State(hash_key="00"), last_good=observed.last_good())
    again.refresh()
    assert len(again.snapshot.objects) == 3
    assert "good.json" in again.problems[0].message


def test_one_machine_runs_the_older_of_two_mailservers(tmp_path: Path) -> None:
    second = GOOD.partition("---")[0].replace("name: main", "name: other")
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(second)
    observed = ObservedState(Manifests([tmp_path]), State(hash_key="00"), one_server=True)
    observed.refresh()
    assert [ref.name for ref in observed.snapshot.objects if ref.kind == "MailServer"] == ["main"]
    (problem,) = observed.problems
    assert str(problem).startswith(f"{tmp_path / 'b.yaml'}:2: kind: one machine runs one MailServer")
    assert "--port-offset" in problem.message
    for_a_cluster = ObservedState(Manifests([tmp_path]), State(hash_key="00"))
    for_a_cluster.refresh()
    assert not for_a_cluster.problems


def test_a_data_folder_too_deep_for_sockets_is_refused(
    passable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (passable / "all.yaml").write_text(GOOD)
    deep = passable / ("d" * 80)
    assert cli.main(["up", str(passable / "all.yaml"), "--data", str(deep), "--free-ports"]) == 1
    assert "choose a shorter folder with --data" in capsys.readouterr().err
