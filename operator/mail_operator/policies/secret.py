"""Is a Secret there that an object names, with the keys that are read?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """A Secret (namespace/name) that is needed, and what was found of it."""

    secret: str
    keys: Sequence[str]  # that it must have
    found: Mapping[str, bytes] | None  # its contents; None where there is none, or where they cannot be read
    problem: tuple[str, str] | None = None  # (reason, message), why they cannot


def unusable(facts: SecretFacts) -> Verdict | None:
    """What of the Secret is missing."""
    if facts.problem:
        return Verdict(*facts.problem, waits=True)
    if facts.found is None:
        keys = " and ".join(facts.keys)
        noun = "key" if len(facts.keys) == 1 else "keys"
        return Verdict(
            "SecretMissing",
            f"Secret {facts.secret} does not exist: create it with {noun} {keys}.",
            waits=True,
        )
    for key in facts.keys:
        if key not in facts.found:
            return Verdict("KeyMissing", f"Secret {facts.secret} has no key {key}: add it.", waits=True)
    return None
