"""What the operator may do is what it does: its rights held against the API server's audit log."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import NAMESPACE as OPERATOR_NAMESPACE
from tests.support.installation import domain, mailbox, manifest, wait

pytestmark = pytest.mark.skipif("MAILPODS_AUDIT_LOG" not in os.environ, reason="there is no audit log")
USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:mailpods-operator"
Right = tuple[str, str, str]  # API group, resource, verb

UNSEEN = {
    # The admission plugin OwnerReferencesPermissionEnforcement asks for it, where it is on.
    ("mailpods.io", "mailservers/finalizers", "update"),
    # Of a stuck rollout: here the StatefulSet controller, whose pods are managed in parallel, comes first.
    ("", "pods/eviction", "create"),
}


def events() -> Iterator[dict[str, object]]:
    """What the operator asked for, since the cluster was made."""
    with Path(os.environ["MAILPODS_AUDIT_LOG"]).open() as log:
        for line in log:
            event = json.loads(line)
            if event["user"].get("username") == USER and "objectRef" in event:
                yield event


def used() -> set[Right]:
    """An apply is a patch in the log, and needs create where the object is new."""
    found: set[Right] = set()
    for event in events():
        about = event["objectRef"]
        assert isinstance(about, dict)
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        right = (about.get("apiGroup", ""), resource, str(event["verb"]))
        found.add(right)
        status = event.get("responseStatus")
        if right[2] == "patch" and isinstance(status, dict) and status.get("code") == 201:
            found.add((right[0], right[1], "create"))
    return found


def granted() -> set[Right]:
    """All that the ClusterRole says."""
    return {
        (group, resource, verb)
        for rule in fetched("ClusterRole", "mailpods-operator")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_no_right_is_missing_and_none_is_idle(installation: ClusterInstallation) -> None:
    # What no other story does: a login that collides is written down, and a whole domain goes.
    ends = domain("ends.test", 88, deletionPolicy="Delete", login={"forms": ["generated"]})
    installation.apply("ends", ends, mailbox("first", "ends-test"))
    installation.wait_for("Mailbox", "first")
    login = installation.status("Mailbox", "first")["loginName"]
    installation.remove("ends")
    spec = {"domainRef": {"name": "ends-test"}}
    others = (
        manifest("MailAlias", "alias", {**spec, "targets": [{"address": "first@ends.test"}]}),
        manifest("MailingList", "list", {**spec, "members": ["first@ends.test"]}),
    )
    installation.apply("ends", ends, mailbox("squatter", "ends-test", loginName=login))
    installation.wait_for("Mailbox", "squatter")
    installation.apply("more", mailbox("first", "ends-test"), *others)
    installation.wait_for("Mailbox", "first")
    assert fetched("Mailbox", "first")["spec"]["loginName"] != login
    installation.wait_for("MailingList", "list", "False")
    kubectl("delete", "maildomain", "ends-test", "-n", NAMESPACE, "--timeout=60s")
    for kind, name in (("Mailbox", "first"), ("MailAlias", "alias"), ("MailingList", "list")):
        wait(lambda kind=kind, name=name: not fetched(kind, name), 20)  # type: ignore[misc]
    for replicas in (1, 0):
        portal = json.dumps({"spec": {"portal": {"replicas": replicas}}})
        kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", portal)
        wait(lambda wanted=replicas: bool(fetched("Deployment", "main-portal")) == bool(wanted), 60)  # type: ignore[misc]
    # By its rights, that is: in a namespace that is going nobody may make anything.
    decided = [e["annotations"] for e in events() if isinstance(e.get("annotations"), dict)]
    assert decided
    assert not [each for each in decided if each.get("authorization.k8s.io/decision") == "forbid"]  # type: ignore[attr-defined]
    assert granted() - used() == UNSEEN


def test_mail_pods_have_no_token_and_no_rights(installation: ClusterInstallation) -> None:
    for pod in json.loads(kubectl("get", "pods", "-n", "t", "-o", "json"))["items"]:
        assert pod["spec"]["automountServiceAccountToken"] is False
        sources = [s for v in pod["spec"]["volumes"] for s in v.get("projected", {}).get("sources", ())]
        assert not any("serviceAccountToken" in source for source in sources)
