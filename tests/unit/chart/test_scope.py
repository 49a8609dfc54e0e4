"""The operator's rights: everywhere, or in named namespaces alone; and the list of them in docs/."""

import re

import pytest
from mail_operator.cluster.runtime import AUTHORITY

from tests.support import helm
from tests.support.charting import Object, by_name, rendered
from tests.support.helm import ROOT

pytestmark = pytest.mark.skipif(
    helm.find() is None, reason="no helm: install Go, then run python -m tests.support.helm"
)

SCOPED = "watchNamespaces={mail-system,tenant}"


def _granted(role: Object) -> set[tuple[str, str]]:
    """(API group/resource, verb)."""
    return {
        (f"{group}/{resource}".removeprefix("/"), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _cluster_role(objects: list[Object]) -> Object:
    (found,) = (
        role
        for role in by_name(objects, "ClusterRole").values()
        if not role["metadata"]["name"].startswith("mail-")
    )
    return found


def test_a_limited_operator_has_rights_in_its_namespaces_alone() -> None:
    objects = rendered(SCOPED)
    seen = _cluster_role(objects)
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in seen["rules"]] == [
        (["namespaces"], ["mail-system", "tenant"], ["list", "watch"]),
        (["customresourcedefinitions"], ["maildomains.mailpods.io"], ["get"]),
    ]
    everywhere = _granted(_cluster_role(rendered()))
    roles = [found for found in objects if found["kind"] == "Role"]
    (own,) = (role for role in roles if role["metadata"]["namespace"] == "mailpods-system")
    roles.remove(own)
    # The authority, which is kept beside the operator: nothing else there can be read.
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in own["rules"]] == [
        ([AUTHORITY], ["get", "patch"]),
        (None, ["create"]),
    ]
    assert {role["metadata"]["namespace"] for role in roles} == {"mail-system", "tenant"}
    for role in roles:
        assert _granted(role) == everywhere - _granted(seen)
    bindings = [found for found in objects if found["kind"] == "RoleBinding"]
    assert {each["metadata"]["namespace"] for each in bindings} == {
        "mail-system",
        "tenant",
        "mailpods-system",
    }
    (account,) = by_name(objects, "ServiceAccount")
    for binding in (*bindings, *by_name(objects, "ClusterRoleBinding").values()):
        subject = {"kind": "ServiceAccount", "name": account, "namespace": "mailpods-system"}
        assert binding["subjects"] == [subject]
    (bound,) = by_name(objects, "ClusterRoleBinding").values()
    assert bound["roleRef"]["name"] == seen["metadata"]["name"]


def test_an_operator_that_watches_its_own_namespace_has_one_role_there() -> None:
    namespaces = [
        found["metadata"]["namespace"]
        for found in rendered("watchNamespaces={mailpods-system}")
        if found["kind"] == "Role"
    ]
    assert namespaces == ["mailpods-system"]


def test_the_operator_is_told_its_namespaces() -> None:
    def told(*values: str) -> list[str]:
        (deployment,) = by_name(rendered(*values), "Deployment").values()
        env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        return [each["value"] for each in env if each["name"] == "WATCH_NAMESPACES"]

    assert told(SCOPED) == ["mail-system,tenant"]
    assert told("watchNamespaces={a,a}") == ["a"]
    assert told() == []


def test_operators_of_several_namespaces_do_not_share_a_name() -> None:
    names = {
        _cluster_role(rendered(SCOPED, arguments=["--namespace", namespace]))["metadata"]["name"]
        for namespace in ("one", "two")
    }
    assert len(names) == 2


def test_the_docs_say_of_each_right_what_it_could_do_in_wrong_hands() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \| [^|]{20,} \|$", (ROOT / "docs" / "rights.md").read_text(), re.M
    )
    documented = {(resource, verb) for resource, verbs in rows for verb in re.findall(r"\w+", verbs)}
    assert documented == _granted(_cluster_role(rendered()))
