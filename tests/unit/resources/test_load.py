"""Manifests are refused in sentences that name the field and the remedy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from mail_operator.resources import KINDS, Invalid, load, pending_fields

EXAMPLES = Path(__file__).parents[3] / "examples"


def manifest(kind: str, spec: Mapping[str, Any], name: str = "info") -> dict[str, Any]:
    return {"apiVersion": "mailpods.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def mailbox(name: str = "info", **spec: Any) -> dict[str, Any]:
    return manifest("Mailbox", {"domainRef": {"name": "a"}, **spec}, name)


def problems(document: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(Invalid) as error:
        load(document)
    return dict(error.value.problems)


def test_the_examples_are_valid_and_use_nothing_that_comes_later() -> None:
    for file in EXAMPLES.rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] in KINDS:
                assert pending_fields(load(document)) == []


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (mailbox(qouta="2Gi"), "spec.qouta", "did you mean quota?"),
        (mailbox(quota="2Gb"), "spec.quota", "e.g. 2Gi"),
        (mailbox(quota=5), "spec.quota", "string"),
        (mailbox(services={"pop3": False}), "spec.services.pop3", 'write "off", in quotes'),
        (mailbox(services={"imap": "home"}), "spec.services.imap", "'everywhere', 'lan' or 'off'"),
        (mailbox(localPart="jürgen"), "spec.localPart", "without accents"),
        (mailbox(localPart="x" * 65), "spec.localPart", "at most 64"),
        (mailbox(passwordHash="{PLAIN}x", passwordSecretRef={"name": "a"}), "spec.passwordHash", "keep one"),
        (manifest("Mailbox", {}), "spec.domainRef", "is missing"),
        (manifest("MailServer", {"hostname": "Mail.A"}), "spec.hostname", "not allowed"),
        (
            manifest("MailDomain", {"domainName": "münchen.test", "serverRef": {"name": "m"}}),
            "spec.domainName",
            "A-labels",
        ),
        (
            manifest("MailAlias", {"domainRef": {"name": "a"}, "targets": [{}]}),
            "spec.targets[0]",
            "either mailboxRef or address",
        ),
        (
            manifest("RelayPolicy", {"serverRef": {"name": "m"}, "limits": {"messageSize": "129M"}}),
            "spec.limits.messageSize",
            "128M or less",
        ),
        (
            manifest(
                "RelayPolicy", {"serverRef": {"name": "m"}, "lanNetworks": [{"name": "x", "cidr": "10.0"}]}
            ),
            "spec.lanNetworks[0].cidr",
            "IPv4 or IPv6 network",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(document: Mapping[str, Any], field: str, words: str) -> None:
    assert words in problems(document)[field]


@pytest.mark.req_part("R-001-19")
def test_dotted_local_parts_are_kept() -> None:
    assert load(mailbox(localPart="firstname.lastname")).spec.local_part == "firstname.lastname"  # type: ignore[attr-defined]


@pytest.mark.req_part("R-000-26")
def test_the_administrators_name_is_reserved() -> None:
    assert "reserved" in problems(mailbox(name="maint"))["spec.localPart"]


@pytest.mark.req_part("R-004-14")
def test_groupware_needs_imap() -> None:
    services = {"groupware": True, "imap": "off"}
    assert "needs imap" in problems(mailbox(services=services))["spec.services.groupware"]


def test_what_comes_later_is_named_not_ignored() -> None:
    resource = load(mailbox(autoresponder={"text": "Away"}, services={"fetch": True}))
    assert dict(pending_fields(resource)) == {
        "spec.autoresponder": "R-002-13",
        "spec.services.fetch": "R-004-12",
    }


def test_an_unknown_version_is_refused() -> None:
    assert "mailpods.io/v1alpha1" in problems({**mailbox(), "apiVersion": "mailpods.io/v9"})["apiVersion"]
