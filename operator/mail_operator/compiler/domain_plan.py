"""What one domain adds to the directory: its addresses, accounts and credentials, its objects' statuses."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar, cast

from mail_operator.compiler.faults import Fault
from mail_operator.compiler.plan import Dependencies, GeneratedSecret, Status
from mail_operator.compiler.snapshot import Question, SecretName
from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict
from mailpods.directory.records import (
    Access,
    Account,
    AccountId,
    Address,
    AddressEntry,
    Credential,
    Domain,
    DomainName,
    Service,
)
from mailpods.directory.shards import bucket_of, file_name

BUCKETS = 16  # of a server: about 1,500 accounts each would keep every Secret below half of 1 MiB

Member = Mailbox | MailAlias | MailingList
T = TypeVar("T")


@dataclass
class Records:
    """The records of one bucket."""

    domains: dict[DomainName, Domain] = field(default_factory=dict)
    addresses: dict[Address, AddressEntry] = field(default_factory=dict)
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    credentials: dict[AccountId, Credential] = field(default_factory=dict)
    versions: dict[str, tuple[str, str]] = field(default_factory=dict)  # Secret -> its version, its hash


@dataclass
class DomainPlan:
    """The outcome for one domain. It is filled once, by build_domain_plan(), and never changed again."""

    buckets: dict[int, Records] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    addresses: dict[str, AddressEntry] = field(default_factory=dict)
    aliases: dict[ObjectRef, tuple[MailAlias, str, Verdict | None]] = field(default_factory=dict)
    statuses: dict[ObjectRef, Status] = field(default_factory=dict)  # all but those of `aliases`
    dependencies: dict[ObjectRef, Dependencies] = field(default_factory=dict)
    allocations: dict[ObjectRef, Mapping[str, Any]] = field(default_factory=dict)
    secrets: list[GeneratedSecret] = field(default_factory=list)
    secrets_read: set[SecretName] = field(default_factory=set)
    questions: list[Question] = field(default_factory=list)
    weights: dict[ObjectRef, tuple[tuple[int, int], ...]] = field(default_factory=dict)  # (bucket, bytes)
    sizes: dict[int, int] = field(default_factory=dict)  # bucket -> bytes, room for them or not
    faults: list[Fault] = field(default_factory=list)  # while something was made for one of its objects

    def share(self, old: "DomainPlan") -> None:
        """Let what is equal to the outcome before be that very object: most of it is, after most edits."""
        pairs: tuple[tuple[dict[Any, Any], dict[Any, Any]], ...] = (
            (self.buckets, old.buckets),
            (self.domains, old.domains),
            (self.addresses, old.addresses),
            (self.statuses, old.statuses),
        )
        for now, before in pairs:
            for key, value in now.items():
                if before.get(key) == value:
                    now[key] = before[key]

    def records(self, key: str) -> Records:
        """The bucket in which what belongs to a key lies."""
        return self.buckets.setdefault(bucket_of(key, BUCKETS), Records())

    def drop(self, ref: ObjectRef, address: Address, account: AccountId) -> None:
        """Take back what was made of a member, of which not all could be made."""
        records = self.records(address)
        for addresses in (records.addresses, self.addresses):
            if (entry := addresses.get(address)) and entry.source == str(ref):
                del addresses[address]
        if ref.kind == "Mailbox":
            records.accounts.pop(account, None)
            records.credentials.pop(account, None)
        for made in (self.dependencies, self.allocations, self.aliases, self.statuses):
            made.pop(ref, None)

    def keep(self, ref: ObjectRef, old: "DomainPlan", address: Address, account: AccountId) -> bool:
        """Take over what an older plan has of a member. Returns whether it has anything."""
        self.secrets_read |= old.secrets_read
        wanted = [secret for secret in old.secrets if secret.owner == ref and secret not in self.secrets]
        self.secrets += wanted
        if ref not in old.dependencies:
            return False
        self.dependencies[ref] = old.dependencies[ref]
        if ref in old.aliases:
            self.aliases[ref] = old.aliases[ref]
        records, before = self.records(address), old.buckets.get(bucket_of(address, BUCKETS), Records())
        entry = old.addresses.get(address)
        if entry and entry.source == str(ref) and address not in self.addresses:
            records.addresses[address] = self.addresses[address] = entry
        if ref.kind == "Mailbox" and account in before.accounts:
            records.accounts[account] = before.accounts[account]
            records.credentials[account] = before.credentials[account]
            hashed = before.credentials[account].hash
            records.versions.update({n: v for n, v in before.versions.items() if v[1] == hashed})
        return True

    def lasting(self, members: Collection[ObjectRef]) -> "DomainPlan":
        """What stays in force of it where none can be made for these members."""

        def of_members(made: Mapping[ObjectRef, T]) -> dict[ObjectRef, T]:
            return {ref: each for ref, each in made.items() if ref in members}

        return replace(
            self,
            aliases=of_members(self.aliases),
            statuses=of_members(self.statuses),
            dependencies=of_members(self.dependencies),
            allocations={},  # they are written down by now
        )


@cache
def services_of(**services: str) -> Mapping[Service, Access]:
    """Those of an account that are not disabled."""
    given = {name: access for name, access in services.items() if access != "disabled"}
    return cast(Mapping[Service, Access], given)


@cache  # few, and named by all objects: ten thousand mailboxes share some dozens
def dependencies(server: ObjectRef, buckets: frozenset[int], shards: frozenset[int]) -> Dependencies:
    return Dependencies(server, frozenset(file_name(bucket) for bucket in buckets), shards)


def domain_of(member: Member) -> ObjectRef:
    """The domain that a member names."""
    assert member.domain is not None  # their specs require it
    return member.domain
