"""Who has which name, where a MailServer asks tenants to prove in DNS that a domain is theirs.

The proof is a TXT record that binds a name to the MailDomain that claims it, as with DNS-01 (RFC 8555 §8.4).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mail_operator.compiler import zones
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.domain import DomainFacts, namespace_not_allowed

LABEL = "_mailpods-challenge"


def wanted(domain: MailDomain) -> tuple[str, ...]:
    """The names that a domain claims, its own first."""
    return domain.spec.domain_name, *domain.spec.additional_names


def challenges(domain: MailDomain, server: MailServer | None) -> tuple[zones.Record, ...]:
    """The records that prove its names, in their order; none where nobody asks for a proof."""
    if server is None or server.spec.domain_verification == "None":
        return ()
    if domain.metadata.namespace == server.metadata.namespace:  # the platform's own
        return ()
    return tuple(_challenge(name, domain.ref, server.ref) for name in wanted(domain))


def _challenge(name: str, domain: ObjectRef, server: ObjectRef) -> zones.Record:
    bound = json.dumps([server.namespace, server.name, domain.namespace, domain.name, name])
    token = hashlib.sha256(bound.encode()).hexdigest()[:40]
    value = f'"mailpods-domain-verification={token}"'
    return {"name": f"{LABEL}.{name}.", "type": "TXT", "value": value}


def owners(
    server: MailServer,
    domains: Iterable[MailDomain],
    before: Mapping[str, ObjectRef],
    resolvers: tuple[str, ...],
    snapshot: Snapshot,
) -> dict[str, ObjectRef]:
    """Name -> the MailDomain that may have it; a name that nobody has proven is not there.

    `domains`: the oldest first; `before`: who had the names. He keeps a name until DNS holds the proof of
    somebody else and his own no longer: that an answer is missing takes nothing away.
    """
    claims: dict[str, list[tuple[ObjectRef, bool]]] = {}
    for domain in domains:
        labels = snapshot.namespaces.get(domain.metadata.namespace, {})
        if namespace_not_allowed(DomainFacts(domain, server.ref, server, labels)):
            continue
        for name, proven in _proofs(domain, challenges(domain, server), resolvers, snapshot):
            claims.setdefault(name, []).append((domain.ref, proven))
    found: dict[str, ObjectRef] = {}
    for name, claimants in claims.items():
        proven_by = [ref for ref, proven in claimants if proven]
        holder = before.get(name)
        if holder and (holder in proven_by or (not proven_by and (holder, False) in claimants)):
            found[name] = holder
        elif proven_by:
            found[name] = proven_by[0]
    return found


def _proofs(
    domain: MailDomain, records: Sequence[zones.Record], resolvers: tuple[str, ...], snapshot: Snapshot
) -> Iterator[tuple[str, bool]]:
    if not records:
        yield from ((name, True) for name in wanted(domain))
    for name, record in zip(wanted(domain), records, strict=False):
        yield name, zones.holds(record, resolvers, snapshot.answers)
