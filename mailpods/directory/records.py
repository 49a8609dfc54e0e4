"""What a mail pod must know: domains, addresses and accounts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

Address = NewType("Address", str)  # lower case, local@domain
AccountId = NewType("AccountId", str)  # number/local part, e.g. 7/info: stable, because both are immutable
DomainName = NewType("DomainName", str)  # lower case, A-labels


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that mail is taken for. `users_of` names the domain whose users it shares, if not its own."""

    number: int
    users_of: DomainName | None = None
    catch_all: Address | None = None


@dataclass(frozen=True, slots=True)
class AddressEntry:
    """Where an address leads: one account, or further addresses. `source` names the object that says so."""

    source: str
    account: AccountId | None = None
    targets: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox: the store shard that owns it, and its quota in bytes (None: unlimited)."""

    address: Address
    shard: int
    quota: int | None = None


@dataclass(frozen=True)
class Bucket:
    """The records of one shard file."""

    domains: Mapping[DomainName, Domain] = field(default_factory=dict)
    addresses: Mapping[Address, AddressEntry] = field(default_factory=dict)
    accounts: Mapping[AccountId, Account] = field(default_factory=dict)
