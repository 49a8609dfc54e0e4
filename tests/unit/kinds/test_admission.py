"""What an API server refuses, and what it takes: by its own code, held against load()."""

import re
from typing import Any

import pytest
import yaml
from mail_operator.kinds import Invalid, load, refused_changes

from tests.support import gotools
from tests.support.broken import BROKEN, domain, mailbox, policy, server
from tests.support.helm import CHART
from tests.support.schema import judge, refusals, refused_update

_MISSING, _WHY = gotools.missing("schema")
pytestmark = pytest.mark.skipif(_MISSING, reason=_WHY)


def test_an_api_server_takes_the_definitions() -> None:
    assert judge([]) == ([], [])


def test_an_api_server_refuses_what_is_broken() -> None:
    """At the field, or at a part that it stands in."""
    said = refusals(*(broken.document for broken in BROKEN))
    taken = [broken.field for broken, words in zip(BROKEN, said, strict=True) if not words]
    assert taken == []


GOOD = [
    *(mailbox(quota=quota) for quota in ("2Gi", 1073741824, "1e9", "1.5Ti", "3Ei", "500m", ".5G", "+1k")),
    *(
        server(smtp={"resources": {"requests": {"cpu": cpu, "memory": "1.5Gi"}}})
        for cpu in ("500m", 1, "2.5")
    ),
    policy(inbound={"resolvers": ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1"]}),
    policy(limits={"messageSize": 128_000_000}),
    mailbox(services={"pop3": "disabled", "imap": "off"}, spam={"preset": "off"}),
    server(bulk={"limits": {"warmUp": {"start": "2026-02-28", "perDay": [50, 50, 100, 50]}}}),
    server(addresses=["192.0.2.1", "2001:db8::1"], loginForms=["address", "numbered"]),
    server(service={"ipFamilies": ["IPv6", "IPv4"]}),
    server(
        scheduling={
            "tolerations": [
                {"operator": "Exists"},
                {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 300},
            ]
        }
    ),
    {**server(), "metadata": {"name": "x" * 45}},
]


def test_an_api_server_takes_what_users_give() -> None:
    assert refusals(*GOOD) == [[]] * len(GOOD)


@pytest.mark.parametrize(
    "document",
    [
        mailbox(quota=0.5),
        policy(limits={"messageSize": 128_000_001}),
        *(policy(lanNetworks=[{"name": "x", "cidr": c}]) for c in ("10.0.0.1/8", "10.0.0.0/08", "::1%e/8")),
        *(policy(inbound={"resolvers": [r]}) for r in ("[::1]:53", "192.0.2.1:0", "::ffff:192.0.2.1", "1.1")),
    ],
    ids=str,
)
def test_load_and_an_api_server_agree(document: dict[str, Any]) -> None:
    try:
        load(document)
        here = True
    except Invalid:
        here = False
    assert (refusals(document) == [[]]) is here


STORAGE = {"size": "10Gi", "spoolSize": 2147483648, "className": "fast"}


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (server(storage=STORAGE), server(storage=STORAGE | {"size": "20Gi", "spoolSize": "2Gi"}), None),
        (server(storage=STORAGE), server(storage=STORAGE | {"size": "9Gi"}), "spec.storage.size"),
        (server(storage={"size": "20Gi"}), server(), "spec.storage.size"),
        (server(storage=STORAGE), server(storage=STORAGE | {"spoolSize": "1Gi"}), "spec.storage.spoolSize"),
        (server(storage=STORAGE), server(storage=STORAGE | {"className": "slow"}), "spec.storage.className"),
        (server(), server(storage={"className": "slow"}), "spec.storage.className"),
        (mailbox(localPart="a"), mailbox(localPart="b"), "spec.localPart"),
        (mailbox(localPart="a"), mailbox(), "spec.localPart"),
        (mailbox(), mailbox(domainRef={"name": "b"}), "spec.domainRef"),
        (mailbox(), mailbox(shard=1, loginName="abcdef"), None),
        (mailbox(shard=1), mailbox(shard=2), "spec.shard"),
        (mailbox(), mailbox(formerAddress={"localPart": "b"}), "spec.formerAddress"),
        (mailbox(formerAddress={"localPart": "b"}), mailbox(), None),
        (
            mailbox(formerAddress={"localPart": "b"}),
            mailbox(formerAddress={"localPart": "b", "keepAsAlias": False}),
            None,
        ),
        (
            mailbox(formerAddress={"localPart": "b"}),
            mailbox(formerAddress={"localPart": "c"}),
            "spec.formerAddress.localPart",
        ),
        (
            mailbox(formerAddress={"localPart": "b"}),
            mailbox(formerAddress={"localPart": "b", "domainRef": {"name": "b"}}),
            "spec.formerAddress.domainRef",
        ),
        (domain(), domain(number=7), None),
        (domain(number=7), domain(number=8), "spec.number"),
        (domain(number=7), domain(), "spec.number"),
    ],
    ids=str,
)
def test_changes_are_refused_here_and_there(
    old: dict[str, Any], new: dict[str, Any], field: str | None
) -> None:
    here = [name for name, _ in refused_changes(load(old), load(new))]
    assert here == ([field] if field else [])
    assert [refusal.partition(":")[0] for refusal in refused_update(old, new)] == here


def test_the_chart_asks_for_the_oldest_kubernetes_that_understands_the_definitions() -> None:
    """CEL functions of release N may be used in definitions from N+1 on: see tests/cluster/tools/schema."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    oldest = re.fullmatch(r">=\s*1\.(\d+)\.0-0", chart["kubeVersion"])
    assert oldest, chart["kubeVersion"]
    assert judge([], f"1.{oldest[1]}") == ([], [])
    assert judge([], f"1.{int(oldest[1]) - 1}")[0] != []
