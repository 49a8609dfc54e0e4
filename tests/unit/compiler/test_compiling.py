"""What compile() decides about addresses, logins, limits and conflicts."""

import random
from dataclasses import replace
from typing import Any

import pytest
from mail_operator.compiler import numbers
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.domain_plan import BUCKETS
from mail_operator.compiler.snapshot import PasswordHash, SecretProblem
from mail_operator.kinds import Resource

from mailpods.directory.records import AccountId, Address, DomainName, StoreSettings
from mailpods.directory.shards import STORE_FILE, bucket_of, decode_store, file_name
from tests.support.compiling import SERVER, Compiled, alias, domain, mailbox, resource, server, snapshot

A = (server(), domain("a.test", number=7))


@pytest.mark.req_part("R-000-18", "R-000-15")
def test_the_numbered_login_is_the_account() -> None:
    info = mailbox("info")
    found = Compiled(*A, info)
    assert found.ready(info)[0] == "True"
    assert found.plan.statuses[info.ref]["login"] == "7/info"
    assert found.addresses[Address("info@a.test")].account == "7/info"


def test_a_login_prefix_belongs_to_the_older_domain() -> None:
    login = {"forms": ["prefixed", "numbered"], "prefix": "xyz00"}
    domains = domain("a.test", number=7, login=login), domain("b.test", number=8, login=login)
    found = Compiled(server(), *domains, mailbox("info"), mailbox("other", "b-test", localPart="info"))
    assert found.credentials[AccountId("7/info")].logins == ("xyz00-info", "7/info")
    assert found.credentials[AccountId("8/info")].logins == ("8/info",)


def test_an_account_has_the_quota_and_the_services_that_its_mailbox_says() -> None:
    services = {"imap": "lan", "pop3": "disabled"}
    found = Compiled(*A, mailbox("info", quota="1Gi", services=services))
    credential = found.credentials[AccountId("7/info")]
    assert credential.quota == found.accounts[AccountId("7/info")].quota == 2**30
    assert credential.services["imap"] == "lan" and "pop3" not in credential.services
    assert Compiled(*A, mailbox("info")).credentials[AccountId("7/info")].quota is None


def test_a_domain_is_ready_once_the_files_with_its_names_and_its_administrator_are_loaded() -> None:
    own = domain("a.test", number=7, additionalNames=["b.test"])
    keys = ("a.test", "b.test", "maint@a.test")
    files = {file_name(bucket_of(key, BUCKETS)) for key in keys}
    assert Compiled(server(), own).plan.dependencies[own.ref].files == files


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({"forms": ["numbered"]}, {"7/info"}),
        ({"forms": ["address"]}, {"info@a.test", "info@b.test"}),
        ({"forms": ["prefixed"], "prefix": "xyz00"}, {"xyz00-info"}),
        ({"forms": ["numbered", "address"]}, {"7/info", "info@a.test", "info@b.test"}),
    ],
)
@pytest.mark.req_part("R-000-19", "R-002-01")
def test_a_domain_accepts_its_login_forms_and_no_other(login: dict[str, Any], expected: set[str]) -> None:
    own = domain("a.test", number=7, additionalNames=["b.test"], login=login)
    found = Compiled(server(), own, mailbox("info"))
    assert set(found.credentials[AccountId("7/info")].logins) == expected


@pytest.mark.req_part("R-001-01")
def test_generated_logins_are_six_long_unique_and_stable() -> None:
    own = domain("a.test", number=7, login={"forms": ["generated"]})
    boxes = [mailbox(f"u{n}") for n in range(300)]
    logins = {id: c.logins for id, c in Compiled(server(), own, *boxes).credentials.items() if c.address}
    assert all(len(login) == 6 for (login,) in logins.values())
    assert len(set(logins.values())) == 300
    again = {id: c.logins for id, c in Compiled(server(), own, *boxes[::-1]).credentials.items() if c.address}
    assert again == logins


def test_a_generated_login_that_collides_is_written_into_the_spec() -> None:
    own = domain("a.test", number=7, login={"forms": ["generated"]})
    plain = Compiled(server(), own, mailbox("info"))
    (derived,) = plain.credentials[AccountId("7/info")].logins
    squatter, info = mailbox("anna", loginName=derived), mailbox("info")
    found = Compiled(server(), own, squatter, info)
    (other,) = found.credentials[AccountId("7/info")].logins
    assert other != derived
    assert found.plan.allocations[info.ref] == {"loginName": other}


@pytest.mark.req_part("R-000-08", "R-000-09")
def test_the_administrator_appears_locked_and_opens_with_a_password() -> None:
    own = domain("a.test", number=7, admin={"passwordSecretRef": {"name": "pw"}})
    given = {("default", "pw"): PasswordHash("{PLAIN}x")}
    opened = Compiled(server(), own, passwords=given)
    assert opened.credentials[AccountId("7/maint")].hash == "{PLAIN}x"
    assert opened.ready(own)[0] == "True"
    waiting = Compiled(server(), own)
    assert waiting.credentials[AccountId("7/maint")].hash is None
    assert waiting.ready(own)[1] == "SecretMissing"
    locked = Compiled(server(), domain("a.test", number=7), passwords=given)
    assert locked.plan.statuses[own.ref]["admin"] == {"login": "7/maint"}
    assert locked.credentials[AccountId("7/maint")].hash is None
    assert locked.accounts[AccountId("7/maint")].address == "maint@a.test"  # where postmaster's mail goes


@pytest.mark.req_part("R-000-25")
def test_a_mailbox_without_its_domain_waits_for_it() -> None:
    info = mailbox("info")
    assert Compiled(server(), info).ready(info)[:2] == ("False", "DomainMissing")
    assert Compiled(*A, info).ready(info)[0] == "True"


@pytest.mark.req_part("R-000-04")
def test_numbers_are_unique_and_a_blank_one_is_the_lowest_free() -> None:
    first, same, blank = domain("a.test", number=1), domain("b.test", number=1), domain("c.test")
    found = Compiled(server(), first, same, blank)
    status, reason, message = found.ready(same)
    assert (status, reason) == ("False", "NumberTaken")
    assert "MailDomain default/a-test" in message and "leave spec.number blank" in message
    assert found.plan.allocations[blank.ref] == {"number": 2}


def test_a_domain_in_two_namespaces_belongs_to_the_older() -> None:
    old, young = domain("a.test"), domain("a.test", namespace="other")
    found = Compiled(server(allowedNamespaces={"from": "All"}), old, young)
    assert found.ready(old)[0] == "True"
    assert found.ready(young)[1] == "DomainNameTaken"


def test_a_namespace_that_is_not_allowed_is_told() -> None:
    stranger = domain("a.test", namespace="other")
    assert Compiled(server(), stranger).ready(stranger)[1] == "NamespaceNotAllowed"
    chosen = server(allowedNamespaces={"from": "Selector", "matchLabels": {"mail": "yes"}})
    assert Compiled(chosen, stranger).ready(stranger)[1] == "NamespaceNotAllowed"
    labelled = Compiled(chosen, stranger, namespaces={"other": {"mail": "yes"}})
    assert labelled.ready(stranger)[0] == "True"


@pytest.mark.req_part("R-000-03")
def test_the_thousandth_domain_of_a_limited_server_is_refused() -> None:
    domains = [domain(f"d{n}.test") for n in range(1000)]
    limited = Compiled(server(limits={"domains": 999}), *domains)
    assert all(limited.ready(each)[0] == "True" for each in domains[:999])
    status, reason, message = limited.ready(domains[999])
    assert (status, reason) == ("False", "DomainLimit") and "999" in message
    free = Compiled(server(), *domains)
    assert free.ready(domains[999])[0] == "True"


# --- addresses


@pytest.mark.req_part("R-001-16")
def test_an_address_is_a_mailbox_or_a_forwarder_and_the_older_wins() -> None:
    box, forward = mailbox("info"), alias("info-forward", "x@c.test", localPart="info")
    found = Compiled(*A, box, forward)
    status, reason, message = found.ready(forward)
    assert (status, reason) == ("False", "AddressTaken") and "Mailbox default/info" in message
    assert found.addresses[Address("info@a.test")].account == "7/info"
    other = Compiled(*A, forward, box)
    assert other.ready(box)[1] == "AddressTaken"
    assert other.addresses[Address("info@a.test")].targets == ("x@c.test",)


@pytest.mark.req_part("R-002-09", "R-002-10")
def test_an_alias_beats_a_mailbox_where_the_domain_says_so() -> None:
    own = domain("a.test", number=7, addressConflict="AliasWins")
    box, forward = mailbox("info"), alias("info-forward", "x@c.test", localPart="info")
    for order in ((box, forward), (forward, box)):
        found = Compiled(server(), own, *order)
        assert found.ready(forward)[0] == "True"
        assert found.ready(box)[0] == "True"
        assert (found.condition(box, "Shadowed") or {})["status"] == "True"
        assert found.addresses[Address("info@a.test")].targets == ("x@c.test",)
        assert AccountId("7/info") in found.accounts  # it still logs in


@pytest.mark.req_part("R-001-17")
def test_twenty_forward_targets_and_no_more() -> None:
    twenty = alias("twenty", *(f"x{n}@c.test" for n in range(20)))
    more = alias("more", *(f"x{n}@c.test" for n in range(21)))
    found = Compiled(*A, twenty, more)
    assert found.ready(twenty)[0] == "True"
    status, reason, message = found.ready(more)
    assert (status, reason) == ("False", "ForwarderLimit") and "21" in message and "20" in message
    assert Address("more@a.test") not in found.addresses


@pytest.mark.req_part("R-001-18")
def test_fifty_aliases_of_an_address_and_no_more() -> None:
    many = [alias(f"alias{n}", "info") for n in range(51)]
    found = Compiled(*A, mailbox("info"), *many)
    assert all(found.ready(each)[0] == "True" for each in many[:50])
    status, reason, message = found.ready(many[50])
    assert (status, reason) == ("False", "AliasLimit") and "50" in message


def test_a_catch_all_is_off_unless_set() -> None:
    assert Compiled(*A, mailbox("info")).domains[DomainName("a.test")].catch_all is None
    caught = domain("a.test", number=7, additionalNames=["b.test"], catchAll="Info@a.test")
    found = Compiled(server(), caught, mailbox("info"))
    assert {each.catch_all for each in found.domains.values()} == {"info@a.test"}
    assert found.domains.keys() == {"a.test", "b.test"}


def test_shared_domains_have_one_set_of_users() -> None:
    both = domain("a.test", number=7, additionalNames=["b.test"])
    found = Compiled(server(), both, mailbox("info"))
    assert found.ready(both)[2].startswith("Takes mail for a.test, b.test")
    assert Address("info@b.test") not in found.addresses  # it follows from the domain, once


# --- aliases among each other


def test_a_cycle_of_aliases_is_named_and_the_rest_works() -> None:
    one, two = alias("one", "two@a.test"), alias("two", "one@a.test", "info")
    info = mailbox("info")
    found = Compiled(*A, info, one, two)
    status, reason, message = found.ready(one)
    assert (status, reason) == ("False", "AliasCycle")
    assert "one@a.test" in message and "two@a.test" in message
    assert found.ready(info)[0] == "True"
    own = alias("self", "self@a.test")
    assert Compiled(*A, own).ready(own)[1] == "AliasCycle"


def test_a_long_chain_and_a_broad_tree_are_bounded() -> None:
    chain = [alias(f"c{n}", f"c{n + 1}@a.test") for n in range(30)]
    found = Compiled(*A, *chain, mailbox("c30"))
    assert found.ready(chain[0])[1] == "AliasTooFar"
    assert found.ready(chain[29])[0] == "True"


def test_a_target_that_does_not_exist_is_told_and_the_others_work() -> None:
    both = alias("both", "info", "nobody")
    found = Compiled(*A, mailbox("info"), both)
    status, reason, message = found.ready(both)
    assert (status, reason) == ("False", "MailboxMissing")
    assert "nobody" in message and "the other targets work" in message
    assert found.addresses[Address("both@a.test")].targets == ("info@a.test",)


def test_an_address_that_is_too_long_is_refused() -> None:
    name = ".".join(["d" * 60] * 4) + ".test"
    own = domain(name)
    box = mailbox("info", of=own.metadata.name, localPart="x" * 64)
    status, reason, message = Compiled(server(), own, box).ready(box)
    assert (status, reason) == ("False", "AddressTooLong") and "254" in message


def test_an_unreadable_secret_is_told_with_its_remedy() -> None:
    box = mailbox("info", passwordHash=None, passwordSecretRef={"name": "pw"})
    problem = SecretProblem("KeyMissing", "Secret default/pw has no key password or hash: add one.")
    found = Compiled(*A, box, passwords={("default", "pw"): problem})
    assert found.ready(box) == ("False", "KeyMissing", problem.message)
    assert Compiled(*A, box).ready(box)[1] == "SecretMissing"
    assert AccountId("7/info") in found.accounts  # mail is taken all the same


# --- determinism


def _many() -> list[Resource]:
    made: list[Resource] = [*A, domain("b.test", login={"forms": ["generated"]})]
    for of in ("a-test", "b-test"):
        made += [mailbox(f"{of}-u{n}", of, localPart=f"u{n}") for n in range(20)]
        made += [
            alias(f"{of}-f{n}", f"{of}-u{n}", f"f{n + 1}@b.test", of=of, localPart=f"f{n}") for n in range(10)
        ]
    lan = [{"name": "office", "cidr": "192.0.2.0/24"}]
    return [*made, resource("RelayPolicy", "p", serverRef={"name": "main"}, lanNetworks=lan)]


def test_equal_input_gives_equal_bytes_in_any_order() -> None:
    objects = _many()
    given = snapshot(*objects)
    expected = compile(given)
    for seed in range(5):
        shuffled = objects.copy()
        random.Random(seed).shuffle(shuffled)
        plan = compile(type(given)({o.ref: o for o in shuffled}, passwords=given.passwords, age=given.age))
        assert plan == expected


def former(draw: random.Random) -> dict[str, Any]:
    """A former address in some domain, of somebody or nobody; or none."""
    of = draw.choice(["a-test", "b-test", "d0-test", "d1-test"])
    place = {"localPart": f"u{draw.randrange(20)}", "domainRef": {"name": of}}
    return {"formerAddress": place} if draw.randrange(2) else {}


def test_an_incremental_run_gives_what_a_full_one_gives() -> None:
    """Random edits, one after the other: changed, removed, added objects of every kind."""
    draw = random.Random(1)
    objects = {each.ref: each for each in _many()}
    given = snapshot(*objects.values())
    plan = compile(given)
    for step in range(150):
        ref = draw.choice(sorted(objects))
        each = objects[ref]
        document = {"apiVersion": "mailpods.io/v1alpha1", **each.model_dump(by_alias=True, exclude_none=True)}
        match draw.randrange(4):
            case 0:
                given = given.with_changes({}, [ref])
            case 1:
                given = given.with_changes({ref: each})
            case 2 if ref.kind == "Mailbox":
                box = mailbox(
                    ref.name,
                    document["spec"]["domainRef"]["name"],
                    localPart=f"u{step}",
                    quota="1G",
                    **former(draw),
                )
                given = given.with_changes({ref: box})
            case _ if ref.kind == "MailDomain":
                given = given.with_changes({ref: domain(document["spec"]["domainName"], number=step + 50)})
            case _:
                given = given.with_changes({ref: each})
        plan = compile(given, plan)
        assert plan == compile(given), (step, ref)


def test_what_stores_are_told_of_mail_that_nobody_has_any_more() -> None:
    def told(**meta: str) -> StoreSettings:
        made = server(store={"retentionDays": 2})
        metadata = replace(made.metadata, annotations=meta)
        made = made.model_copy(update={"metadata": metadata})
        return decode_store(Compiled(made).plan.credentials[SERVER][STORE_FILE])

    assert told().retention_seconds == 2 * 24 * 60 * 60 and told().confirmed_shrink is None
    assert told(**{"mailpods.io/confirm-removal": "accounts"}).confirmed_shrink == "accounts"


def test_only_numbers_that_nobody_has_are_wiped() -> None:
    plan = Compiled(server(), domain(number=7), wiped={SERVER: frozenset({7, 8})}).plan
    assert decode_store(plan.credentials[SERVER][STORE_FILE]).wiped == (8,)


def test_new_mailboxes_go_where_the_fewest_are_and_those_of_before_stay() -> None:
    two, own = server(store={"shards": 2}), domain("a.test", number=7)
    old = [mailbox(f"old{n}") for n in range(3)]
    fresh = [mailbox(f"new{n}") for n in range(4)]
    there = mailbox("there", shard=1)
    found = Compiled(two, own, *old, *fresh, there, served=frozenset(each.ref for each in old)).plan
    shards = {ref.name: patch["shard"] for ref, patch in found.allocations.items()}
    assert shards == {"old0": 0, "old1": 0, "old2": 0, "new0": 1, "new1": 1, "new2": 0, "new3": 1}
    assert found.dependencies[fresh[0].ref].shards == {1} and found.dependencies[there.ref].shards == {1}


def test_of_one_shard_nothing_is_written_down() -> None:
    assert not Compiled(*A, mailbox("info")).plan.allocations


# --- numbers of domains that are gone


def after(before: Compiled, *objects: Resource, **fields: Any) -> Compiled:
    """What becomes of others, where the Secret with the numbers of before is there."""
    (ledger,) = [each for each in before.plan.objects if each.get("type") == numbers.TYPE]
    return Compiled(*objects, secrets={numbers.secret_name(SERVER): ledger["data"]}, **fields)


def number(found: Compiled, of: Resource) -> int:
    return int(found.plan.statuses[of.ref]["number"])


def test_the_number_of_a_removed_domain_is_not_the_next_ones_and_is_kept_for_its_name() -> None:
    a, b = domain("a.test"), domain("b.test")
    first = Compiled(server(), a)
    second = after(first, server(), b)
    assert (number(first, a), number(second, b)) == (1, 2)
    third = after(second, server(), b, a)
    assert (number(third, a), number(third, b)) == (1, 2)


def test_a_number_stays_taken_however_many_come_after_its_domain() -> None:
    found = Compiled(server(), domain("a.test"))
    for expected in (2, 3, 4):
        each = domain(f"d{expected}.test")
        found = after(found, server(), each)
        assert number(found, each) == expected


def test_a_number_that_somebody_asks_for_is_given_and_the_name_of_before_gets_another() -> None:
    a, b = domain("a.test"), domain("b.test", number=1)
    second = after(Compiled(server(), a), server(), b)
    assert number(second, b) == 1
    third = after(second, server(), a, b)
    assert (number(third, a), number(third, b)) == (2, 1)


def test_a_number_whose_mail_is_wiped_is_free_again() -> None:
    a, b = domain("a.test"), domain("b.test")
    wiped = after(Compiled(server(), a), server(), wiped={SERVER: frozenset({1})})
    assert number(after(wiped, server(), b), b) == 1


def test_numbers_that_cannot_be_read_are_not_overwritten() -> None:
    problem = SecretProblem("SecretUnreadable", "no")
    found = Compiled(server(), domain(), secrets={numbers.secret_name(SERVER): problem})
    assert not [each for each in found.plan.objects if each.get("type") == numbers.TYPE]


def test_where_the_numbers_of_before_have_no_room_those_of_now_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Compiled(server(), domain("a.test"))
    monkeypatch.setattr(numbers, "_MOST_BYTES", 20)
    second = after(first, server(), domain("b.test"))
    (ledger,) = [each for each in second.plan.objects if each.get("type") == numbers.TYPE]
    assert ledger["data"][numbers.FILE] == b'{"b.test":2}'
