"""crds/ says what the models say, in the form that an API server takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_operator.kinds import KINDS, Resource, load
from mail_operator.kinds.crd import CHART_CRDS, CRDS, crd, files

from tests.support.broken import domain, mailbox, policy, server

_EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.mark.parametrize("folder", [CRDS, CHART_CRDS], ids=["crds", "chart"])
def test_the_files_are_those_of_the_models(folder: Path) -> None:
    on_disk = {file.name: file.read_text() for file in folder.iterdir()}
    assert on_disk == files(), "run: .venv/bin/python -m mail_operator.kinds.crd"


def _parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _parts(part, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from _parts(schema[inner], f"{path}[]")


def _schema(kind: type[Resource]) -> dict[str, Any]:
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@_EVERY_KIND
def test_every_field_is_described(kind: type[Resource]) -> None:
    blank = [
        path
        for path, part in _parts(_schema(kind), "")
        if not part.get("description") and not path.endswith("[]") and path != ".metadata"
    ]
    assert blank == []


@_EVERY_KIND
def test_every_list_and_text_of_the_spec_is_bounded(kind: type[Resource]) -> None:
    """Otherwise the API server refuses validations for what they might cost."""
    bound = {"array": "maxItems", "string": "maxLength"}
    unbounded = [
        path
        for path, part in _parts(_schema(kind)["properties"]["spec"], "spec")
        if (bounding := bound.get(part.get("type", "string"))) and bounding not in part and "enum" not in part
    ]
    assert unbounded == []


@_EVERY_KIND
def test_every_number_has_a_format_and_bounds(kind: type[Resource]) -> None:
    """Those of the status are the operator's own."""
    loose = [
        path
        for path, part in _parts(_schema(kind), "")
        if part.get("type") == "integer"
        and (
            "format" not in part
            or "minimum" not in part
            or ("maximum" not in part and not path.startswith(".status"))
        )
    ]
    assert loose == []


@_EVERY_KIND
def test_every_list_says_what_kind_of_list_it_is(kind: type[Resource]) -> None:
    lists = {path: part for path, part in _parts(_schema(kind), "") if part.get("type") == "array"}
    assert [path for path, part in lists.items() if "x-kubernetes-list-type" not in part] == []
    ordered = (".perDay", ".resolvers", ".loginForms", ".login.forms", ".records", ".ipFamilies")
    kinds = {part["x-kubernetes-list-type"] for path, part in lists.items() if path.endswith(ordered)}
    assert kinds <= {"atomic"}


@pytest.mark.parametrize("document", [mailbox(), domain(), server(), policy()], ids=lambda d: d["kind"])
def test_the_defaults_keep_the_rules(document: dict[str, Any]) -> None:
    """load() applies the rules to what was set: nothing is refused when the defaults are written out."""
    spec = load(document).model_dump(by_alias=True, exclude_none=True)["spec"]
    assert load({**document, "spec": spec})


def test_that_a_domain_is_being_deleted_and_what_a_server_lacks_stand_in_every_listing() -> None:
    def shown(kind: str) -> set[str]:
        columns = crd(KINDS[kind])["spec"]["versions"][0]["additionalPrinterColumns"]
        return {each["jsonPath"] for each in columns if not each.get("priority")}

    assert '.status.conditions[?(@.type=="Ready")].reason' in shown("MailDomain")
    assert '.status.conditions[?(@.type=="ComponentsReady")].reason' in shown("MailServer")
