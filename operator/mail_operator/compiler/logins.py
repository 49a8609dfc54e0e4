"""The logins of an account: every form that its domain accepts."""

import hashlib
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.topology import DomainState, age_key
from mail_operator.kinds import Resource
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.mailserver import LoginForm
from mail_operator.kinds.meta import ObjectRef

LENGTH = 6  # R-001-01
_ALPHABET = string.ascii_lowercase + string.digits


def login_of(form: LoginForm, state: DomainState, local_part: str, generated: str | None) -> list[str]:
    """The logins of one form, none where it lacks what it is made of."""
    match form:
        case "numbered":
            return [f"{state.number}/{local_part}"]
        case "address":
            return [f"{local_part}@{name}" for name in state.names]
        case "generated":
            return [generated] if generated else []
        case "prefixed":
            return [f"{state.prefix}-{local_part}"] if state.prefix else []


def logins(state: DomainState, local_part: str, generated: str | None) -> tuple[str, ...]:
    """All logins, those of the form that stands first in the domain first."""
    return tuple(login for form in state.forms for login in login_of(form, state, local_part, generated))


def derive(address: str, attempt: int = 0) -> str:
    """Six characters that follow from the address; the first is a letter. About 1.6·10⁹ are possible."""
    digest = hashlib.sha256(f"{address}#{attempt}".encode()).digest()
    value = int.from_bytes(digest[:8], "big")
    value, letter = divmod(value, len(string.ascii_lowercase))
    text = string.ascii_lowercase[letter]
    for _ in range(LENGTH - 1):
        value, digit = divmod(value, len(_ALPHABET))
        text += _ALPHABET[digit]
    return text


@dataclass(frozen=True, slots=True)
class Claim:
    """A mailbox that needs a generated login: `written` stands in its spec."""

    age: tuple[str, int, ObjectRef]
    mailbox: ObjectRef
    address: str
    derived: str
    written: str | None


def claims(state: DomainState, members: Iterable[Resource], snapshot: Snapshot) -> tuple[Claim, ...]:
    """The mailboxes of a domain that need a generated login."""
    if "generated" not in state.forms:
        return ()
    return tuple(
        Claim(age_key(member, snapshot), member.ref, address, derive(address), member.spec.login_name)
        for member in members
        if isinstance(member, Mailbox)
        for address in [f"{member.local_part}@{state.name}"]
    )


def resolve(claims: Iterable[Claim]) -> Iterator[tuple[ObjectRef, str]]:
    """A login for each mailbox, all different. The older chooses first: what is written, or else derived.

    A mailbox whose written login is taken gets none.
    """
    taken: set[str] = set()
    for claim in sorted(claims, key=lambda claim: claim.age):
        login, attempt = claim.written or claim.derived, 0
        while login in taken and not claim.written:
            attempt += 1
            login = derive(claim.address, attempt)
        if login not in taken:
            taken.add(login)
            yield claim.mailbox, login


def unique(claims: Mapping[ObjectRef, Iterable[Claim]]) -> Mapping[ObjectRef, Mapping[ObjectRef, str]]:
    """Domain -> mailbox -> generated login."""
    owner = {claim.mailbox: domain for domain, members in claims.items() for claim in members}
    found: dict[ObjectRef, dict[ObjectRef, str]] = {domain: {} for domain in claims}
    for mailbox, login in resolve(claim for members in claims.values() for claim in members):
        found[owner[mailbox]][mailbox] = login
    return found
