"""Is there a password to log in with? An account without one is locked; its mail is taken all the same."""

from collections.abc import Callable
from dataclasses import dataclass

from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PasswordFacts:
    """The Secret of a password (namespace/name), and what was found in it."""

    secret: str
    generated: bool  # made by us when it is missing
    readable: bool  # now, or when it was last read
    problem: tuple[str, str] | None  # reason and sentence, where it exists and gives nothing


def unreadable(facts: PasswordFacts) -> Verdict | None:
    """What exists must hold a password or a hash."""
    if facts.problem is None:
        return None
    reason, message = facts.problem
    if facts.readable:
        message += " Until then the password of before holds."
    return Verdict(reason, message, waits=True, soon=reason == "Hashing")


def pending(facts: PasswordFacts) -> Verdict | None:
    """What we make takes a moment."""
    if facts.readable or not facts.generated:
        return None
    message = f"A password is being made into Secret {facts.secret}."
    return Verdict("PasswordPending", message, waits=True, soon=True)


def missing(facts: PasswordFacts) -> Verdict | None:
    """What the user names must exist."""
    if facts.readable:
        return None
    return Verdict(
        "SecretMissing",
        f"Secret {facts.secret} does not exist: create it with key password or hash.",
        waits=True,
    )


# An account that breaks one of these is locked.
FAULTS: list[Callable[[PasswordFacts], Verdict | None]] = [unreadable, pending, missing]
