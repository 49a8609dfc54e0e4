"""Which domains' mail goes with them: those that somebody means, and never another's."""

import json
from typing import Any

import pytest
from mail_operator.cluster.cached import cache_resource
from mail_operator.engine.removal import deleting_status, removals
from mail_operator.engine.runtime import FINALIZER, Observation, ObservedResource
from mail_operator.kinds.meta import ObjectRef

SERVER = ObjectRef("MailServer", "t", "main")
MEANT = {"mailpods.io/confirm-removal": "mail"}


def domain(number: int, deleting: bool, **changed: Any) -> ObservedResource:
    """A MailDomain as a cluster has it."""
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
        "number": changed.get("claims", number),
        "serverRef": {"name": "main"},
        "deletionPolicy": changed.get("policy", "Delete"),
    }
    item = {"metadata": meta, "spec": spec, "status": changed.get("status", {"number": number})}
    return cache_resource("MailDomain")(item, None)


def ref(number: int) -> ObjectRef:
    return ObjectRef("MailDomain", "t", f"d{number}")


def wiped(*domains: ObservedResource, **observed: Any) -> frozenset[int]:
    """The numbers that are to be wiped where these are all domains."""
    there = {d.resource.ref: d for d in domains if d.resource}
    return removals(Observation(there, **observed)).wiped.get(SERVER, frozenset())


def test_who_deletes_a_domain_by_name_means_it_be_it_the_only_one_or_not() -> None:
    assert wiped(domain(1, True)) == {1}
    assert wiped(domain(1, True), domain(2, True)) == {1, 2}
    assert wiped(domain(1, True), domain(2, False)) == {1}


def test_what_goes_with_its_namespace_or_its_kind_waits_until_it_is_confirmed() -> None:
    swept = {ref(1): "its namespace t"}
    assert not wiped(domain(1, True), swept=swept)
    assert wiped(domain(1, True, annotations=MEANT), swept=swept) == {1}


def test_nothing_is_wiped_until_it_is_known_how_it_was_deleted() -> None:
    assert not wiped(domain(1, True), unclear={ref(1)})


@pytest.mark.parametrize(("gone", "alive", "expected"), [(10, 0, 10), (11, 30, 0), (11, 60, 11), (29, 1, 0)])
def test_very_many_at_once_are_an_accident(gone: int, alive: int, expected: int) -> None:
    assert len(wiped(*(domain(n, n <= gone) for n in range(1, gone + alive + 1)))) == expected


def test_those_of_an_accident_wait_on_when_others_of_it_were_confirmed() -> None:
    """Or the confirmation of some would make the rest few enough to be wiped."""
    domains = [domain(n, True) for n in range(1, 12)]
    held = removals(Observation({d.resource.ref: d for d in domains if d.resource})).held
    assert len(held) == 11
    status = deleting_status(domains[0], held[ref(1)], "")
    assert status["conditions"][0]["reason"] == "DeletionHeld" and status["number"] == 1
    assert "mailpods.io/confirm-removal=mail" in status["conditions"][0]["message"]
    told = json.loads(json.dumps(status))
    assert not wiped(domain(1, True, status=told), domain(2, False))
    assert wiped(domain(1, True, status=told, annotations=MEANT)) == {1}


def test_a_domain_that_was_refused_has_no_mail_of_its_own() -> None:
    """It names another's number; the status, which the operator alone writes, does not."""
    assert not wiped(domain(1, False), domain(2, True, claims=1, status={}))


def test_a_retained_one() -> None:
    assert not wiped(domain(1, True, policy="Retain"), domain(2, False))
