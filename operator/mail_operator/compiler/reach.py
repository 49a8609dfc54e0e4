"""Where an alias leads in the end, as routing will find it, and whether it leads anywhere."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mail_operator.policies.alias import ReachFacts
from mailpods.directory.records import AccountId, AddressEntry, Domain

MAX_DEPTH = 20  # as in mailpods.routing, whose expansion this foresees
MAX_RESULTS = 1000
_DELIMITER = "+"

DomainOf = Callable[[str], Domain | None]
EntryOf = Callable[[str], AddressEntry | None]


@dataclass
class Reach:
    """What an expansion found. `visited` are the addresses that it depends on."""

    facts: ReachFacts
    visited: frozenset[str]


@dataclass
class _Walk:
    address: str
    accounts: set[AccountId] = field(default_factory=set)
    remote: set[str] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    cycle: tuple[str, ...] = ()
    too_far: bool = False


def reach(address: str, domain_of: DomainOf, entry_of: EntryOf) -> Reach:
    """Follow an address of this server over aliases, additional names, details and catch-alls."""
    walk = _Walk(address)
    _follow(address, walk, (), domain_of, entry_of)
    facts = ReachFacts(
        address=address,
        destinations=len(walk.accounts) + len(walk.remote),
        cycle=walk.cycle,
        too_far=walk.too_far,
        unknown=tuple(walk.unknown),
    )
    return Reach(facts, frozenset(walk.visited))


def _follow(address: str, walk: _Walk, path: tuple[str, ...], domain_of: DomainOf, entry_of: EntryOf) -> None:
    local, _, name = address.lower().rpartition("@")
    domain = domain_of(name)
    if domain is None:
        walk.remote.add(address)
        return
    key = f"{local}@{domain.users_of or name}"
    if key in path:
        if key == walk.address:
            walk.cycle = walk.cycle or (*path, key)
        return
    if key in walk.visited:
        return
    walk.visited.add(key)
    if len(path) > MAX_DEPTH or len(walk.accounts) + len(walk.remote) >= MAX_RESULTS:
        walk.too_far = True
        return
    entry = entry_of(key)
    if entry is None and _DELIMITER in local:
        base = f"{local.partition(_DELIMITER)[0]}@{key.rpartition('@')[2]}"
        walk.visited.add(base)
        entry = entry_of(base)
    if entry is not None and entry.account is not None:
        walk.accounts.add(entry.account)
        return
    if entry is not None:
        targets: tuple[str, ...] = entry.targets
    elif domain.catch_all:
        targets = (domain.catch_all,)
    else:
        walk.unknown.append(key)
        return
    for target in targets:
        _follow(target, walk, (*path, key), domain_of, entry_of)
