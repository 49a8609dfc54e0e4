"""Manifests are refused in sentences that name the field and the remedy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mail_operator.kinds import KINDS, Invalid, load, pending_fields
from mail_operator.kinds.values import quantity_bytes

from tests.support.broken import BROKEN, alias, mailbox, policy, server

EXAMPLES = Path(__file__).parents[3] / "examples"


def problems(document: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as error:
        load(document)
    return dict(error.value.problems)


def test_the_examples_are_valid_and_use_nothing_that_comes_later() -> None:
    for file in EXAMPLES.rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] in KINDS:
                assert pending_fields(load(document)) == []


@pytest.mark.req_part("R-000-26", "R-004-14", "R-003-19")
@pytest.mark.parametrize(("document", "field", "words"), BROKEN)
def test_a_mistake_is_named_with_its_remedy(document: Mapping[str, Any], field: str, words: str) -> None:
    assert words in problems(document)[field]


@pytest.mark.req_part("R-001-19")
def test_dotted_local_parts_are_kept() -> None:
    assert load(mailbox(localPart="firstname.lastname")).spec.local_part == "firstname.lastname"  # type: ignore[attr-defined]


def test_what_comes_later_is_named_not_ignored() -> None:
    resource = load(mailbox(autoresponder={"text": "Away"}, services={"fetch": True}))
    assert dict(pending_fields(resource)) == {
        "spec.autoresponder": "R-002-13",
        "spec.services.fetch": "R-004-12",
    }


def test_an_unknown_version_is_refused() -> None:
    assert "mailpods.io/v1alpha1" in problems({**mailbox(), "apiVersion": "mailpods.io/v9"})["apiVersion"]


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("2Gi", 2 * 2**30),
        ("50M", 50_000_000),
        (1073741824, 2**30),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("12E2", 1200),
        ("3Ei", 3 * 2**60),
        ("9E", 9 * 10**18),
        ("1e99", 2**63 - 1),
        ("500m", 1),
        ("5.", 5),
        (".5k", 500),
        ("0", 0),
    ],
)
def test_quantities_are_those_of_kubernetes(given: str | int, number: int) -> None:
    """By its grammar; parts of a byte count as one, and what is beyond 64 bits is their most."""
    quota = load(mailbox(quota=given)).spec.quota  # type: ignore[attr-defined]
    assert quota == str(given) and quantity_bytes(quota) == number


LATER = mailbox(quota="2Gi", vacation={"days": 3}, services={"imap": "lan", "jmap": "lan"})


def test_in_a_cluster_fields_of_a_later_version_are_left_out_and_named() -> None:
    assert set(problems(LATER)) == {"spec.vacation", "spec.services.jmap"}
    read = load(LATER, lenient=True)
    assert read.spec == load(mailbox(quota="2Gi", services={"imap": "lan"})).spec  # type: ignore[attr-defined]
    assert dict(pending_fields(read)) == {
        "spec.vacation": "not known to this version",
        "spec.services.jmap": "not known to this version",
    }
    assert "vacation" in LATER["spec"]


@pytest.mark.parametrize(
    "document",
    [
        mailbox(new=1, quota="2Gb"),  # what is known must be right
        mailbox(services={"imap": "vpn"}),  # a new word may mean less than the default
        alias({"listRef": {"name": "x"}}),
        policy(lists={"allow": [{"name": "x", "criteria": {"helo": "a.test", "country": "X"}}]}),
        policy(lists={"allow": [{"name": "x", "criteria": {"helo": "a.test"}, "until": "2026-01-01"}]}),
        server(allowedNamespaces={"from": "All", "except": ["x"]}),
    ],
    ids=str,
)
def test_what_would_say_more_without_them_is_not_read_in_part(document: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid):
        load(document, lenient=True)
