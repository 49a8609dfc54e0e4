"""May this RelayPolicy rule its MailServer, and is all there that it names?"""

from collections.abc import Callable
from dataclasses import dataclass

from mail_operator.policies.verdict import Verdict
from mail_operator.resources.meta import ObjectRef


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """A policy, its server, and the Secret (namespace/name) of its smarthost."""

    namespace: str
    server_ref: ObjectRef
    server_exists: bool
    secret: str | None  # that it names
    secret_exists: bool
    missing_keys: tuple[str, ...]  # of that Secret
    secret_problem: tuple[str, str] | None


def server_missing(facts: RelayFacts) -> Verdict | None:
    """The server must exist."""
    if facts.server_exists:
        return None
    return Verdict(
        "ServerMissing",
        f"{facts.server_ref} does not exist: create it, or correct spec.serverRef.",
        waits=True,
    )


def foreign_namespace(facts: RelayFacts) -> Verdict | None:
    """Rules for the whole server are the platform's: a tenant must not loosen them."""
    if facts.namespace == facts.server_ref.namespace:
        return None
    return Verdict(
        "NotYet",
        f"A RelayPolicy outside of its server's namespace {facts.server_ref.namespace} has no effect in this "
        "version: have the platform team write it there.",
    )


def secret_unusable(facts: RelayFacts) -> Verdict | None:
    """A smarthost's credentials must be readable; without them, it would refuse the mail."""
    if facts.secret is None:
        return None
    if facts.secret_problem:
        return Verdict(*facts.secret_problem, waits=True)
    if not facts.secret_exists:
        return Verdict(
            "SecretMissing",
            f"Secret {facts.secret} does not exist: create it with keys username and password.",
            waits=True,
        )
    if facts.missing_keys:
        return Verdict(
            "KeyMissing", f"Secret {facts.secret} has no key {facts.missing_keys[0]}: add it.", waits=True
        )
    return None


Rule = Callable[[RelayFacts], Verdict | None]

# A policy that breaks one of these has no effect.
REFUSALS: list[Rule] = [server_missing, foreign_namespace]

# A policy that breaks one of these works, but for its smarthost: mail for that is refused.
FAULTS: list[Rule] = [secret_unusable]
