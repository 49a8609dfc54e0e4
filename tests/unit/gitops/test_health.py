"""What Flux (kstatus) and Argo CD (a health script in Lua) think of the statuses that compile() leads to."""

from pathlib import Path
from typing import Any

import pytest
from mail_operator.compiler.status import invalid_status, overruled, withheld
from mail_operator.kinds import KINDS, Resource, load
from mail_operator.kinds.crd import UNSEEN, crd
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

from tests.support import gotools, health
from tests.support.broken import manifest
from tests.support.compiling import Compiled

_MISSING, _WHY = gotools.missing("health")
pytestmark = pytest.mark.skipif(_MISSING, reason=_WHY)

GENERATION = 3
AT = {"name": "main", "namespace": "default"}
HEALTHY: list[tuple[str, str, dict[str, Any]]] = [
    ("MailServer", "main", {"hostname": "mail.a.test"}),
    ("MailDomain", "a-test", {"domainName": "a.test", "serverRef": AT}),
    ("Mailbox", "info", {"domainRef": {"name": "a-test"}, "passwordHash": "{PLAIN}x"}),
    (
        "MailAlias",
        "sales",
        {"domainRef": {"name": "a-test"}, "targets": [{"mailboxRef": {"name": "info"}}]},
    ),
    ("RelayPolicy", "main", {"serverRef": {"name": "main"}}),
]
PROGRESSING = ("InProgress", "Progressing")
STALLED = ("Failed", "Degraded")


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A manifest as the API server has it."""
    made = manifest(kind, spec, name)
    made["metadata"] |= {"namespace": "default", "generation": GENERATION}
    return made


class Objects:
    """Objects of a cluster, with the statuses that the operator would write."""

    def __init__(self, *rows: tuple[str, str, dict[str, Any]]) -> None:
        self.documents = [document(*row) for row in rows]
        self.resources: list[Resource] = [load(each) for each in self.documents]
        self.statuses = Compiled(*self.resources).plan.statuses

    def live(self, kind: str, name: str) -> dict[str, Any]:
        """One of them, as the API server answers."""
        found = next(d for d in self.documents if d["kind"] == kind and d["metadata"]["name"] == name)
        return {**found, "status": dict(self.statuses[ObjectRef(kind, "default", name)])}


@pytest.fixture(scope="module")
def healthy() -> Objects:
    """One object of each kind that has an effect, and all in order."""
    return Objects(*HEALTHY)


def judged(folder: Path, *objects: dict[str, Any]) -> list[tuple[str, str]]:
    """The verdicts of kstatus and of the health script."""
    script = health.settings()["resource.customizations.health.mailpods.io_MailServer"]
    return [(kstatus, argo) for kstatus, argo, _ in health.verdicts(objects, script, folder)]


def test_all_six_kinds_have_the_same_script() -> None:
    scripts = {k: v for k, v in health.settings().items() if k.startswith("resource.customizations.health.")}
    assert {key.rpartition("_")[2] for key in scripts} == KINDS.keys()
    assert len(set(scripts.values())) == 1


def test_what_serves_is_healthy(healthy: Objects, tmp_path: Path) -> None:
    objects = [healthy.live(kind, name) for kind, name, _ in HEALTHY]
    assert judged(tmp_path, *objects) == [("Current", "Healthy")] * len(HEALTHY)


def test_what_waits_for_pods_is_in_progress(healthy: Objects, tmp_path: Path) -> None:
    objects = [healthy.live(kind, name) for kind, name, _ in HEALTHY]
    for each in objects:
        each["status"] = withheld(each["status"], "main-smtp-0 is not ready")
    assert judged(tmp_path, *objects) == [PROGRESSING] * len(HEALTHY)


def test_an_object_that_no_operator_saw_is_in_progress(healthy: Objects, tmp_path: Path) -> None:
    """kstatus calls an object without a status current; the schema's default prevents that."""
    objects = []
    for kind, name, _ in HEALTHY:
        status = crd(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
        assert status["default"] == UNSEEN
        objects.append({**healthy.live(kind, name), "status": status["default"]})
    assert judged(tmp_path, *objects) == [PROGRESSING] * len(HEALTHY)


def test_an_edit_that_was_not_looked_at_is_in_progress(healthy: Objects, tmp_path: Path) -> None:
    objects = [healthy.live(kind, name) for kind, name, _ in HEALTHY]
    for each in objects:
        each["metadata"] = {**each["metadata"], "generation": GENERATION + 1}
    assert judged(tmp_path, *objects) == [PROGRESSING] * len(HEALTHY)


def test_what_is_being_deleted_says_so(healthy: Objects, tmp_path: Path) -> None:
    objects = [healthy.live(kind, name) for kind, name, _ in HEALTHY]
    for each in objects:
        leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
        each["metadata"] = {**each["metadata"], **leaving}
    assert judged(tmp_path, *objects) == [("Terminating", "Progressing")] * len(HEALTHY)


def test_what_another_object_may_heal_is_in_progress(healthy: Objects, tmp_path: Path) -> None:
    """A Mailbox before its MailDomain, a MailDomain before its MailServer: GitOps applies in any order."""
    early = Objects(HEALTHY[1], HEALTHY[4]), Objects(HEALTHY[0], HEALTHY[2], HEALTHY[3])
    objects = [early[0].live("MailDomain", "a-test"), early[1].live("Mailbox", "info")]
    assert judged(tmp_path, *objects) == [PROGRESSING] * 2


def test_what_only_an_edit_helps_has_stalled(tmp_path: Path) -> None:
    of = {"domainRef": {"name": "a-test"}}
    first = ("MailDomain", "a-test", {**HEALTHY[1][2], "number": 7})
    objects = Objects(
        *(row if row[0] != "MailDomain" else first for row in HEALTHY),
        ("MailDomain", "b-test", {"domainName": "b.test", "serverRef": AT, "number": 7}),
        ("Mailbox", "far", {**of, "passwordHash": "{PLAIN}x", "shard": 5}),
        ("MailAlias", "loop", {**of, "targets": [{"address": "loop@a.test"}]}),
        ("MailingList", "team", {**of, "members": ["x@b.test"]}),
    )
    broken = [("MailDomain", "b-test"), ("Mailbox", "far"), ("MailAlias", "loop"), ("MailingList", "team")]
    assert judged(tmp_path, *(objects.live(*each) for each in broken)) == [STALLED] * 4


def test_a_version_that_cannot_be_read_has_stalled_and_says_why(healthy: Objects, tmp_path: Path) -> None:
    unreadable = healthy.live("Mailbox", "info")
    unreadable["status"] = invalid_status([("spec.quota", "is no quantity")], GENERATION)
    script = health.settings()["resource.customizations.health.mailpods.io_Mailbox"]
    [(kstatus, argo, message)] = health.verdicts([unreadable], script, tmp_path)
    assert (kstatus, argo) == STALLED
    assert message.startswith("Invalid: spec.quota: is no quantity")


def test_a_server_of_which_the_cluster_refused_objects_goes_on_trying(
    healthy: Objects, tmp_path: Path
) -> None:
    refused = healthy.live("MailServer", "main")
    refused["status"] = overruled(
        refused["status"], Verdict("NotApplied", "Service main-smtp: exceeded quota")
    )
    assert judged(tmp_path, refused) == [PROGRESSING]
