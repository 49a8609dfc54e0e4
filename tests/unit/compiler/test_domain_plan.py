"""What is taken back of a member of which not all could be made, and what stays of its last plan."""

from mail_operator.compiler.domain_plan import DomainPlan, dependencies
from mail_operator.kinds.meta import ObjectRef

from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Credential
from tests.support.compiling import SERVER

INFO, OTHER = ObjectRef("Mailbox", "t", "info"), ObjectRef("MailAlias", "t", "other")
ADDRESS, ACCOUNT = Address("info@a.test"), AccountId("7/info")


def made(source: ObjectRef) -> DomainPlan:
    """The plan of a domain in which the address is somebody's, and the account the mailbox's."""
    plan = DomainPlan()
    records = plan.records(ADDRESS)
    records.addresses[ADDRESS] = plan.addresses[ADDRESS] = AddressEntry(str(source), ACCOUNT)
    records.accounts[ACCOUNT] = Account(ADDRESS, 0)
    records.credentials[ACCOUNT] = Credential(("7/info",), "{PLAIN}x", {})
    records.versions |= {"t/info-pw": ("v1", "{PLAIN}x"), "t/other-pw": ("v1", "{PLAIN}y")}
    plan.dependencies[INFO] = dependencies(SERVER, frozenset({0}), frozenset({0}))
    return plan


def test_what_is_taken_back_is_a_members_own() -> None:
    for source, left in ((INFO, set()), (OTHER, {ADDRESS})):
        plan = made(source)
        plan.drop(INFO, ADDRESS, ACCOUNT)
        records = plan.records(ADDRESS)
        assert records.addresses.keys() == plan.addresses.keys() == left
        assert not records.accounts and not records.credentials and not plan.dependencies


def test_what_is_kept_is_all_of_the_last_plan_with_the_version_of_its_hash() -> None:
    plan = DomainPlan()
    assert plan.keep(INFO, made(INFO), ADDRESS, ACCOUNT)
    records = plan.records(ADDRESS)
    assert records.addresses.keys() == plan.addresses.keys() == {ADDRESS}
    assert records.accounts.keys() == records.credentials.keys() == {ACCOUNT}
    assert records.versions == {"t/info-pw": ("v1", "{PLAIN}x")}, "or it would be hashed again at a restart"
    assert plan.dependencies.keys() == {INFO}


def test_an_address_that_is_anothers_by_now_stays_his() -> None:
    plan = made(OTHER)
    assert plan.keep(INFO, made(INFO), ADDRESS, ACCOUNT)
    assert plan.addresses[ADDRESS].source == str(OTHER)
    assert not DomainPlan().keep(OTHER, made(INFO), ADDRESS, ACCOUNT), "nothing is known of that one"
