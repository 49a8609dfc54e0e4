"""Who fills the directory fills it for himself."""

import random
from typing import Any

import pytest
from mail_operator.compiler.budgets import CAPACITY
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.domain_plan import BUCKETS
from mail_operator.compiler.snapshot import PasswordHash
from mail_operator.engine.secrets import make_dkim_keys
from mail_operator.kinds import Resource

from mailpods.directory.records import AccountId, Address
from mailpods.directory.shards import bucket_of
from tests.support.compiling import Compiled, alias, domain, mailbox, resource, server, snapshot
from tests.support.pairs import NOW

SECRET_BYTES = 1 << 20  # core/v1, MaxSecretSize
LONG = [{"address": f"{n:02d}{'x' * 60}@{'y' * 60}.test"} for n in range(40)]  # about 5,000 bytes


def hosting(**limits: Any) -> Resource:
    return server(allowedNamespaces={"from": "All"}, limits=limits)


def of_tenant(kind: str, name: str, namespace: str, **spec: Any) -> Resource:
    return resource(kind, name, namespace, domainRef={"name": f"{namespace}-test"}, **spec)


def tenant(namespace: str) -> Resource:
    return domain(f"{namespace}.test", namespace, limits={"forwardersPerAddress": 40})


def chosen(namespace: str, count: int, bucket: int = 0) -> list[Resource]:
    """Aliases whose addresses hash into one bucket."""
    found: list[Resource] = []
    n = 0
    while len(found) < count:
        if bucket_of(f"a{n}@{namespace}.test", BUCKETS) == bucket:
            found.append(of_tenant("MailAlias", f"a{n}", namespace, targets=LONG))
        n += 1
    return found


def full(found: Compiled, members: list[Resource]) -> list[bool]:
    return [found.ready(each)[1] == "DirectoryFull" for each in members]


def largest(found: Compiled) -> int:
    secrets = [each["data"] for each in found.plan.objects if each["kind"] == "Secret"]
    return max(sum(map(len, data.values())) for data in secrets)


def test_one_that_fills_a_bucket_fills_it_for_itself_and_what_worked_works_on() -> None:
    attack = chosen("one", 220)
    (neighbour,) = chosen("two", 1)
    found = Compiled(hosting(), tenant("one"), *attack, tenant("two"), neighbour)
    assert largest(found) < SECRET_BYTES / 1.5
    assert found.ready(neighbour)[0] == "True"
    told = full(found, attack)
    assert 90 < told.index(True) < 110 and all(told[told.index(True) :])  # 512 KiB of about 5,000 bytes each
    status, _, message = found.ready(attack[-1])
    assert status == "False" and "MailServer default/main" in message and "namespace one" in message
    assert found.condition(attack[-1], "Stalled") is None  # room may come without an edit of it
    assert Address("a0@one.test") not in found.addresses or not told[0]
    assert Address(f"{attack[-1].metadata.name}@one.test") not in found.addresses
    assert attack[-1].ref not in found.plan.dependencies and attack[0].ref in found.plan.dependencies


def test_many_that_fill_a_bucket_together_leave_room_for_the_small() -> None:
    names = [f"n{n}" for n in range(4)]
    attack = {name: chosen(name, 110) for name in names}
    small = [each for n in range(5) for each in (tenant(f"s{n}"), *chosen(f"s{n}", 2))]
    objects = [each for name in names for each in (tenant(name), *attack[name])]
    found = Compiled(hosting(), *objects, *small)
    assert largest(found) < SECRET_BYTES
    assert all(found.ready(each)[0] == "True" for each in small)
    counts = [full(found, attack[name]).count(False) for name in names]
    assert min(counts) > 40 and max(counts) - min(counts) <= 1


def test_the_platforms_own_domains_are_bound_by_the_bucket_alone() -> None:
    own = domain("one.test", limits={"forwardersPerAddress": 40})
    to = [target["address"] for target in LONG]
    aliases = [alias(each.metadata.name, *to, of="one-test") for each in chosen("one", 220)]
    found = Compiled(hosting(tenantObjects=1, tenantBytes="1Ki"), own, *aliases)
    assert CAPACITY * 0.9 < largest(found) < SECRET_BYTES
    assert full(found, aliases).index(True) > 170


@pytest.mark.parametrize("limits", [{"tenantObjects": 3}, {"tenantBytes": "26Ki"}])
def test_a_tenant_has_so_many_objects_and_bytes(limits: dict[str, Any]) -> None:
    spread = [chosen("one", 1, bucket)[0] for bucket in range(6)]
    if "tenantBytes" in limits:  # of small ones an eighth of the bytes is no bound
        spread = [of_tenant("MailAlias", f"a{n}", "one", targets=LONG[:20]) for n in range(12)]
    beside = [tenant("two"), *chosen("two", 1)] if "tenantObjects" in limits else [tenant("two")]
    found = Compiled(hosting(**limits), tenant("one"), *spread, *beside)
    told = full(found, spread)
    assert told == sorted(told) and told[0] is False and told[-1] is True
    assert all(found.ready(each)[0] == "True" for each in beside)
    if "tenantObjects" in limits:
        assert told.count(False) == 2  # beside the domain itself


def test_what_goes_makes_room_and_it_is_the_oldest_that_gets_it() -> None:
    spread = [of_tenant("MailAlias", f"a{n}", "one", targets=[{"address": "x@b.test"}]) for n in range(5)]
    objects = [hosting(tenantObjects=3), tenant("one"), *spread]
    plan = compile(snapshot(*objects))
    ages = {each.ref: n for n, each in enumerate(objects)}
    for gone in (spread[0], spread[3]):
        objects.remove(gone)
        now = snapshot(*objects)
        now = type(now)(**{**vars(now), "age": ages})
        plan = compile(now, plan)
        assert plan == compile(now)
        told = [plan.statuses[e.ref]["conditions"][0]["reason"] == "DirectoryFull" for e in objects[2:]]
        assert told == [False, False, *[True] * (len(told) - 2)]


def test_a_mailbox_without_room_has_neither_address_nor_login() -> None:
    boxes = [of_tenant("Mailbox", f"u{n}", "one", passwordSecretRef={"name": f"pw{n}"}) for n in range(2)]
    hashed = {("one", f"pw{n}"): PasswordHash("{PLAIN}x", "7") for n in range(2)}
    found = Compiled(hosting(tenantObjects=2), tenant("one"), *boxes, passwords=hashed)
    assert full(found, boxes) == [False, True]
    assert AccountId("1/u0") in found.credentials and AccountId("1/u1") not in found.credentials
    assert AccountId("1/u1") not in found.accounts and Address("u1@one.test") not in found.addresses
    files = b"".join(v for e in found.plan.objects if e["kind"] == "Secret" for v in e["data"].values())
    assert b"one/pw0" in files and b"one/pw1" not in files


def test_a_domain_whose_keys_are_too_many_is_out_with_what_it_has() -> None:
    made = make_dkim_keys(NOW.date())
    longest = max((pem for name, pem in made.items() if name.endswith(".key")), key=len)
    keys = {f"k{n:03d}.key": longest for n in range(400)}
    late = of_tenant("Mailbox", "info", "one", passwordHash="{PLAIN}x")
    found = Compiled(hosting(), tenant("one"), late, tenant("two"), secrets={("one", "one-test-dkim"): keys})
    assert found.ready(tenant("one"))[:2] == ("False", "DirectoryFull")
    accepting = found.condition(tenant("one"), "Accepting")
    assert accepting and accepting["status"] == "False"
    assert found.ready(late)[1] == "DomainNotServed" and found.ready(tenant("two"))[0] == "True"
    assert largest(found) < SECRET_BYTES / 2


def test_what_is_weighed_is_never_less_than_what_is_written() -> None:
    dice = random.Random(7)
    odd = 'ä"\\\x01\U0001f600'
    boxes = [
        mailbox(
            f"u{n}",
            quota=dice.choice([None, "1Gi"]),
            passwordHash=None,
            passwordSecretRef={"name": f"pw{n}"},
            smarthostAuth=dice.choice([None, {"username": odd, "passwordSecretRef": {"name": "hub"}}]),
            services={"imap": "off", "pop3": "lan"},
        )
        for n in range(200)
    ]
    hashed = {("default", f"pw{n}"): PasswordHash("{PLAIN}" + odd * (n % 5), str(n)) for n in range(200)}
    aliases = [alias(f"a{n}", *(f"x{m}@b.test" for m in range(n % 20 + 1))) for n in range(100)]
    own = domain(
        "a.test",
        login={"forms": ["numbered", "address", "generated"]},
        additionalNames=[f"n{n}.test" for n in range(60)],
        catchAll="x@b.test",
    )
    secrets = {
        ("default", "hub"): {"password": odd.encode()},
        ("default", "a-test-dkim"): make_dkim_keys(NOW.date()),
    }
    found = Compiled(server(), own, *boxes, *aliases, passwords=hashed, secrets=secrets)
    sizes = found.plan.memory.domain_plans[own.ref].sizes  # type: ignore[attr-defined]
    frame = 100  # of the file itself
    for each in found.plan.objects:
        name = each["metadata"]["name"]
        if each["kind"] == "Secret" and any(file.startswith("bucket-") for file in each["data"]):
            written = sum(map(len, each["data"].values()))
            assert written <= sizes.get(int(name.rpartition("-")[2]), 0) + frame
