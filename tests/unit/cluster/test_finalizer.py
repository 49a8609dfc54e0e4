"""Which domains' mail goes with them: those that somebody means, and never another's."""

import json
from typing import Any, cast

import pytest
from mail_operator.cluster.cached import FINALIZER, cache_resource
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.state import ClusterState
from mail_operator.kinds.meta import ObjectRef

SERVER = ObjectRef("MailServer", "t", "main")


def item(number: int, deleting: bool, **changed: Any) -> dict[str, Any]:
    """A MailDomain as the API server has it."""
    meta: dict[str, Any] = {
        "name": f"d{number}",
        "namespace": "t",
        "uid": str(number),
        "generation": 1,
        "finalizers": [FINALIZER],
        "annotations": changed.get("annotations", {}),
        **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}),
    }
    spec = {
        "domainName": f"d{number}.test",
        "number": number,
        "serverRef": {"name": "main"},
        "deletionPolicy": changed.get("policy", "Delete"),
    }
    return {"metadata": meta, "spec": spec, "status": changed.get("status", {"number": number})}


def wiped_of(*items: dict[str, Any]) -> set[int]:
    """The numbers that are to be wiped where these are all domains."""
    said: list[str] = []
    world = ClusterState(cast(ApiClient, None), "image", lambda ref: None, said.append)
    keep = cache_resource("MailDomain")
    cached = {("t", each["metadata"]["name"]): keep(json.loads(json.dumps(each)), None) for each in items}
    world.resources["MailDomain"]._objects = cached
    found = world.wiped().get(SERVER, set())
    gone = [each for each in items if "deletionTimestamp" in each["metadata"]]
    assert bool(said) == (bool(gone) and not found and gone[0]["spec"]["deletionPolicy"] == "Delete")
    return found


def test_one_of_several() -> None:
    assert wiped_of(item(1, True), item(2, False)) == {1}


def test_all_of_a_server_are_an_accident_until_each_is_confirmed() -> None:
    assert wiped_of(item(1, True)) == set()
    assert wiped_of(item(1, True), item(2, True)) == set()
    meant = {"mailpods.io/confirm-removal": "mail"}
    assert wiped_of(item(1, True, annotations=meant)) == {1}


@pytest.mark.parametrize(("gone", "alive", "expected"), [(10, 30, 10), (11, 30, 0), (11, 60, 11)])
def test_very_many_are_an_accident(gone: int, alive: int, expected: int) -> None:
    items = [item(n, n <= gone) for n in range(1, gone + alive + 1)]
    assert len(wiped_of(*items)) == expected


def test_a_domain_that_was_refused_has_no_mail_of_its_own() -> None:
    """It names another's number; the status, which the operator alone writes, does not."""
    found = [item(1, False), item(2, True, status={})]
    found[1]["spec"]["number"] = 1
    world = ClusterState(cast(ApiClient, None), "image", lambda ref: None, lambda text: None)
    keep = cache_resource("MailDomain")
    world.resources["MailDomain"]._objects = {("t", str(n)): keep(each, None) for n, each in enumerate(found)}
    assert not world.wiped()


def test_a_retained_one() -> None:
    assert wiped_of(item(1, True, policy="Retain"), item(2, False)) == set()
