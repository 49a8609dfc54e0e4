"""What is the operator's alone: whose objects are whose, and what others do to them."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from mail_operator.cluster import rollouts
from mail_operator.components.installation import bucket_secret
from mail_operator.engine import secret_reader

from tests.contract.harnesses import SERVER, ClusterHarness
from tests.contract.test_engine import box, deletable, dom, ref
from tests.support.installation import domain, mailbox, server, wait

TEMPLATE = ("StatefulSet", "t", "main-store")


@pytest.fixture
def cluster() -> Iterator[ClusterHarness]:
    """One of its own, with a server and a domain; a test starts the operator."""
    made = ClusterHarness()
    made.apply(server(), domain("a.test", 7))
    yield made
    made.close()


def test_an_object_of_somebody_else_is_told_and_left_alone(cluster: ClusterHarness) -> None:
    foreign = {
        "kind": "Service",
        "metadata": {"name": "main-smtp", "namespace": "t", "labels": {"app": "theirs"}},
        "spec": {"ports": [{"port": 1}]},
    }
    cluster.call(cluster.api.put, foreign)
    cluster.start()
    assert "Service t/main-smtp" in cluster.wait_for(SERVER, "ObjectForeign")["message"]
    assert cluster.api.objects["Service", "t", "main-smtp"]["spec"] == foreign["spec"]
    cluster.call(cluster.api.delete, "Service", "t", "main-smtp")
    cluster.wait_for(SERVER)


def test_a_forged_secret_puts_no_hash_into_anybodys_account(cluster: ClusterHarness) -> None:
    cluster.apply(mailbox("info"))
    password = cluster.api.objects["Secret", "t", "info-pw"]
    version = f"{password['metadata']['uid']}/{password['metadata']['resourceVersion']}"
    versions = json.dumps({"t/info-pw": [version, "{PLAIN}forged"]}).encode()

    def forge(namespace: str, name: str, type_: str, **metadata: Any) -> None:
        meta = {"name": name, "namespace": namespace, "annotations": {"mailpods.io/hash": "x"}, **metadata}
        data = {"versions.json": base64.b64encode(versions).decode()}
        item = {"kind": "Secret", "type": type_, "metadata": meta, "data": data}
        cluster.call(cluster.api.put, item)

    credentials = "mailpods.io/credentials"
    forge("operator", "main-credentials-000", credentials)
    forge("t", "other-credentials-000", credentials, ownerReferences=[owner(cluster)])
    forge("t", bucket_secret("main", "credentials", 0), credentials)
    forge("t", bucket_secret("main", "credentials", 1), "Opaque", ownerReferences=[owner(cluster)])
    cluster.start()
    wait(lambda: cluster.hashes.get("7/info"))
    assert "forged" not in (cluster.hashes["7/info"] or "")


def test_a_restart_hashes_no_password_once_more(
    cluster: ClusterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.apply(mailbox("info"))
    cluster.start()
    cluster.wait_for(box("info"))
    before = cluster.hashes
    cluster.stop()
    hashed: list[str] = []

    def counted(password: str, origin: str) -> str:
        hashed.append(origin)
        return "{PLAIN}anew"

    monkeypatch.setattr(secret_reader, "hash_password", counted)
    cluster.start()
    wait(lambda: cluster.engine().synced)
    cluster.look_again()
    assert cluster.hashes == before and not hashed


def owner(cluster: ClusterHarness) -> dict[str, Any]:
    uid = cluster.api.objects[(*SERVER,)]["metadata"]["uid"]
    return {"kind": "MailServer", "name": "main", "uid": uid, "controller": True}


def test_a_recreated_server_takes_over_all_that_it_had(cluster: ClusterHarness) -> None:
    cluster.apply(mailbox("info"))
    cluster.start()
    cluster.wait_for(box("info"))
    item = cluster.api.objects[(*SERVER,)]
    before = {k: v["metadata"]["uid"] for k, v in cluster.api.objects.items() if _owners(v)}
    cluster.remove(SERVER)
    meta = {"name": "main", "namespace": "t", "annotations": {}}
    cluster.call(cluster.api.put, {"kind": "MailServer", "metadata": meta, "spec": item["spec"]})
    uid = cluster.api.objects[(*SERVER,)]["metadata"]["uid"]
    assert uid != item["metadata"]["uid"]
    wait(lambda: all(_owners(cluster.api.objects[key]) == [uid] for key in before))
    cluster.wait_for(SERVER)
    assert {key: cluster.api.objects[key]["metadata"]["uid"] for key in before} == before


def _owners(item: dict[str, Any]) -> list[str]:
    return [each["uid"] for each in item["metadata"].get("ownerReferences", ())]


def test_what_is_added_to_a_template_by_hand_is_taken_out_and_said(cluster: ClusterHarness) -> None:
    cluster.start()
    cluster.wait_for(SERVER)
    item = json.loads(json.dumps(cluster.api.objects[TEMPLATE]))
    ours = item["spec"]["template"]
    added = json.loads(json.dumps(ours))
    added["spec"]["nodeSelector"] = {"no": "node"}
    added["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/restartedAt"] = "now"
    item["spec"]["template"] = added
    fields: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {"f:no": {}}}}}}
    item["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "fieldsV1": fields}]
    cluster.call(cluster.api.put, item)
    wait(lambda: "nodeSelector" not in cluster.api.objects[TEMPLATE]["spec"]["template"]["spec"])
    events = wait(
        lambda: [e for e in list(cluster.api.objects.values()) if e.get("reason") == "TemplateRestored"]
    )
    (event,) = events
    assert "spec.nodeSelector.no" in event["message"] and "StatefulSet t/main-store" in event["message"]
    kept = cluster.api.objects[TEMPLATE]["spec"]["template"]["metadata"]["annotations"]
    assert kept["kubectl.kubernetes.io/restartedAt"] == "now", "a restart that was asked for goes on"


def test_a_rollout_that_is_stuck_goes_on(cluster: ClusterHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "LOOK_SECONDS", 0.05)
    cluster.start()
    cluster.wait_for(SERVER)

    def pod(name: str, revision: str, ready: str) -> None:
        item = json.loads(json.dumps(cluster.api.objects["Pod", "t", name]))
        item["metadata"]["labels"]["controller-revision-hash"] = revision
        item["status"]["conditions"][0]["status"] = ready
        cluster.api.put(item)

    def old_template() -> None:
        item = json.loads(json.dumps(cluster.api.objects[TEMPLATE]))
        cluster.api.put({**item, "status": {"updateRevision": "right"}})
        pod("main-store-0", "wrong", "False")
        pod("main-smtp-0", "wrong", "True")

    cluster.call(old_template)
    wait(lambda: ("Pod", "t", "main-store-0") not in cluster.api.objects)
    assert ("Pod", "t", "main-smtp-0") in cluster.api.objects
    assert cluster.api.writes["evict"] == 1


def test_a_domain_that_goes_with_its_namespace_is_an_accident(cluster: ClusterHarness) -> None:
    cluster.apply(deletable("swept.test", 8))
    cluster.start()
    cluster.wait_for(dom("swept-test"))
    wait(lambda: cluster.api.objects["MailDomain", "t", "swept-test"]["metadata"].get("finalizers"))

    def sweep() -> None:
        item = json.loads(json.dumps(cluster.api.objects["Namespace", "", "t"]))
        item["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubernetes"]}
        cluster.api.put(item)
        cluster.api.delete("MailDomain", "t", "swept-test")

    cluster.call(sweep)
    assert "its namespace t" in cluster.wait_for(dom("swept-test"), "DeletionHeld")["message"]
    cluster.apply(deletable("swept.test", 8, annotations={"mailpods.io/confirm-removal": "mail"}))
    cluster.wait_until_gone(dom("swept-test"))


def test_an_object_that_no_version_could_have_written_hinders_nobody(cluster: ClusterHarness) -> None:
    cluster.call(cluster.api.put, {"kind": "Mailbox", "metadata": {"name": "odd", "namespace": "t"}})
    cluster.start()
    cluster.apply(mailbox("well"))
    cluster.wait_for(box("well"))
    assert not cluster.status(ref("Mailbox", "odd"))
