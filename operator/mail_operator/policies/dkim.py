"""Are the keys of a domain keys?"""

from collections.abc import Callable
from dataclasses import dataclass

from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class DkimFacts:
    """The Secret (namespace/name) of a domain's keys."""

    secret: str
    broken: tuple[str, ...]  # names of those that are none
    any_good: bool


def key_broken(facts: DkimFacts) -> Verdict | None:
    """Whoever writes keys by hand may be wrong; the others sign."""
    if not facts.broken:
        return None
    return Verdict(
        "DkimKeyInvalid",
        f"Secret {facts.secret}: {facts.broken[0]} is no RSA (1024 bits at least) or Ed25519 key in PEM: "
        "correct it, or delete the Secret to have new ones made.",
        waits=True,
    )


def key_missing(facts: DkimFacts) -> Verdict | None:
    """Mail leaves unsigned then."""
    if facts.any_good:
        return None
    message = f"Secret {facts.secret} has no key <selector>.key: delete it to have new ones made."
    return Verdict("DkimKeyMissing", message, waits=True)


FAULTS: list[Callable[[DkimFacts], Verdict | None]] = [key_broken, key_missing]
