"""Can the pods serve with the certificate that somebody else makes?"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mail_operator.policies.verdict import Verdict
from mailpods.directory.certificate import problem


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The Secret (namespace/name) of a certificate; `issued` by cert-manager, which `describes` it."""

    secret: str
    found: Mapping[str, bytes] | None
    host: str
    issued: bool = False
    describes: str = ""
    unreadable: tuple[str, str] | None = None  # (reason, message)
    now: datetime.datetime | None = None


def unreadable(facts: CertificateFacts) -> Verdict | None:
    """What exists must be readable."""
    return Verdict(*facts.unreadable, waits=True) if facts.unreadable else None


def missing(facts: CertificateFacts) -> Verdict | None:
    """The certificate must be there; the pods start as soon as it is."""
    absent = [key for key in ("tls.crt", "tls.key") if key not in (facts.found or {})]
    if not absent:
        return None
    if facts.issued:
        message = f"cert-manager has not written Secret {facts.secret} yet: `{facts.describes}` says why."
        return Verdict("CertificatePending", message, waits=True)
    lacks = f"has no key {absent[0]}" if facts.found else "does not exist"
    message = (
        f"Secret {facts.secret} {lacks}: give it tls.crt and tls.key, or leave spec.tls.secretName blank."
    )
    return Verdict("SecretMissing", message, waits=True)


def unusable(facts: CertificateFacts) -> Verdict | None:
    """Clients must be able to trust it. Pods that had another pair go on with that."""
    assert facts.found
    found = problem(facts.found["tls.crt"], facts.found["tls.key"], facts.host, facts.now)
    if found is None:
        return None
    return Verdict(
        found.reason,
        f"Secret {facts.secret}: {found.text}. Write a pair that fits; the pods use the last good one.",
        waits=True,
    )


FAULTS: list[Callable[[CertificateFacts], Verdict | None]] = [unreadable, missing, unusable]
