"""What a kind means stands with its model, and what derives from it is up to date."""

from collections.abc import Iterator
from typing import Any

import pytest
from mail_operator.kinds import KINDS, ObjectRef, Resource, load
from mail_operator.kinds.crd import crd
from mail_operator.kinds.meta import models_in
from mail_operator.kinds.overview import DOCUMENT, written
from pydantic import BaseModel

from tests.support.broken import alias, domain, mailbox, manifest, policy, server


def test_the_table_of_kinds_is_that_of_the_models() -> None:
    text = DOCUMENT.read_text()
    assert text == written(text), "run: .venv/bin/python -m mail_operator.kinds.overview"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_the_operator_fills_in_may_be_filled_in_but_once(kind: type[Resource]) -> None:
    spec = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rules = {rule["fieldPath"]: rule["rule"] for rule in spec.get("x-kubernetes-validations", ())}
    assert {field for field in kind.filled if rules[f".{field}"].endswith(" : true")} == set(kind.filled)


def secret(name: str) -> dict[str, str]:
    """A reference to a Secret."""
    return {"name": name}


def smarthost(name: str) -> dict[str, Any]:
    """One with credentials."""
    return {"host": "h.test", "authSecretRef": secret(name)}


NAMING = [
    (server(tls={"secretName": "a"}), {"a"}),
    (server(tls={"issuerRef": secret("x")}), {"info-certificate"}),
    (server(), set()),
    (domain(admin={"passwordSecretRef": secret("a")}), {"a", "info-dkim"}),
    (domain(dkim={"enabled": False}), set()),
    (mailbox(passwordSecretRef=secret("a"), smarthostAuth={"passwordSecretRef": secret("b")}), {"a", "b"}),
    (mailbox(), set()),
    (
        policy(
            outbound={
                "mode": "smarthost",
                "smarthost": smarthost("a"),
                "rules": [
                    {"name": "x", "sender": "*", "smarthost": smarthost("b")},
                    {"name": "y", "sender": "y"},
                ],
            }
        ),
        {"a", "b"},
    ),
    (policy(outbound={"smarthost": smarthost("unused")}), set()),
]


@pytest.mark.parametrize(("document", "names"), NAMING, ids=str)
def test_an_object_says_which_secrets_it_names(document: dict[str, Any], names: set[str]) -> None:
    resource = load(document)
    assert {*resource.secrets(), resource.password_secret()} - {None} == names


def _names_a_secret(field: str) -> bool:
    return field.endswith("secret_ref") or field in ("secret_name", "issuer_ref")


def _given(part: BaseModel, path: str) -> Iterator[str]:
    for name, value in part:
        if _names_a_secret(name) and value:
            yield f"{path}.{name}"
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                yield from _given(each, f"{path}.{name}")


def _fields(kind: type[BaseModel], path: str) -> Iterator[str]:
    for name, info in kind.model_fields.items():
        if _names_a_secret(name):
            yield f"{path}.{name}"
        if name != "fetch":  # which nothing reads yet
            for inner in models_in(info.annotation):
                yield from _fields(inner, f"{path}.{name}")


def test_the_objects_above_use_every_field_that_names_a_secret() -> None:
    used = {field for document, _ in NAMING for field in _given(load(document), document["kind"])}
    assert used == {field for name, kind in KINDS.items() for field in _fields(kind, name)}


@pytest.mark.parametrize(
    ("document", "to_server", "to_domain"),
    [
        (server(), None, None),
        (domain(serverRef={"name": "m", "namespace": "mail"}), ("mail", "m"), None),
        (policy(), ("default", "m"), None),
        (mailbox(), None, ("default", "a")),
        (alias({"address": "b@a.test"}), None, ("default", "a")),
        (manifest("MailingList", {"domainRef": {"name": "a"}, "members": []}), None, ("default", "a")),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_an_object_says_where_it_belongs(
    document: dict[str, Any], to_server: tuple[str, str] | None, to_domain: tuple[str, str] | None
) -> None:
    resource = load(document)
    assert resource.server == (ObjectRef("MailServer", *to_server) if to_server else None)
    assert resource.domain == (ObjectRef("MailDomain", *to_domain) if to_domain else None)
