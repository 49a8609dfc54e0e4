"""What a rule says when it is broken, and how a chain of rules is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mail_operator.kinds.meta import ObjectRef

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an object is not as it should be: a reason for programs, a sentence with remedy for people.

    `waits`: another object may heal it, so that nobody needs to touch this one. `soon`: it will pass by
    itself, in a moment.
    """

    reason: str
    message: str
    waits: bool = False
    soon: bool = False


def first(chain: Sequence[Callable[[F], Verdict | None]], facts: F) -> Verdict | None:
    """What the first broken rule of the chain says, or None if all hold."""
    for rule in chain:
        if verdict := rule(facts):
            return verdict
    return None


def missing_server(ref: ObjectRef, exists: bool) -> Verdict | None:
    """What every object that names a MailServer says when there is none."""
    if exists:
        return None
    return Verdict(
        "ServerMissing", f"{ref} does not exist: create it, or correct spec.serverRef.", waits=True
    )
