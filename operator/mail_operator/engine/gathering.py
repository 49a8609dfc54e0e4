"""From what a runtime observes to what compile() looks at."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mail_operator.compiler import numbers
from mail_operator.compiler.plan import GeneratedSecret, Plan
from mail_operator.compiler.snapshot import PasswordHash, SecretName
from mail_operator.engine.runtime import Observation
from mail_operator.kinds import Resource
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef


@dataclass(frozen=True)
class SecretNames:
    """The Secrets that matter now."""

    hashes: frozenset[SecretName] = frozenset()  # with passwords, of which the hash is wanted
    wholes: frozenset[SecretName] = frozenset()  # of which compile() needs the content
    others: frozenset[SecretName] = field(default_factory=frozenset)  # that are made, applied or mounted

    @property
    def all(self) -> frozenset[SecretName]:
        """All of them."""
        return self.hashes | self.wholes | self.others


def names_in(objects: Mapping[ObjectRef, Resource], plan: Plan) -> SecretNames:
    """The Secrets that resources name, and that the last plan made or wants made."""
    hashes = {(ref.namespace, name) for ref, r in objects.items() if (name := r.password_secret())}
    hashes |= {(s.namespace, s.name) for s in plan.secrets if s.kind == "password"}
    wholes = {(ref.namespace, name) for ref, r in objects.items() for name in r.secrets()}
    wholes |= {numbers.secret_name(server.ref) for server in servers(objects)}
    others = {(s.namespace, s.name) for s in plan.secrets}
    others |= {(r.metadata.namespace, r.certificate_secret) for r in servers(objects)}
    for each in plan.objects:
        if each["kind"] == "Secret":
            others.add((each["metadata"]["namespace"], each["metadata"]["name"]))
    return SecretNames(frozenset(hashes), frozenset(wholes), frozenset(others))


def servers(objects: Mapping[ObjectRef, Resource]) -> Iterator[MailServer]:
    """The MailServers among them."""
    return (r for r in objects.values() if isinstance(r, MailServer))


def served(objects: Mapping[ObjectRef, Resource], observation: Observation) -> frozenset[ObjectRef]:
    """Mailboxes that had mail before there were several shards to choose from."""
    if all(server.spec.store.shards == 1 for server in servers(objects)):
        return frozenset()
    return frozenset(
        ref
        for ref, mailbox in objects.items()
        if isinstance(mailbox, Mailbox)
        and mailbox.spec.shard is None
        and (observed := observation.resources.get(ref))
        and b'"account":' in observed.status
    )


def certificates_asked_for(plan: Plan) -> Iterator[GeneratedSecret]:
    """What cert-manager would write: where it is not, the own authority stands in for every issuer."""
    for asked in plan.objects:
        if asked["kind"] == "Certificate":
            meta, spec = asked["metadata"], asked["spec"]
            owner = ObjectRef("MailServer", meta["namespace"], meta["name"])
            yield GeneratedSecret(
                "tls", meta["namespace"], spec["secretName"], owner, tuple(spec["dnsNames"])
            )


def recovered(versions: bytes) -> dict[SecretName, PasswordHash]:
    """What a credentials Secret says of the versions that its hashes were made of; {} where it is broken."""
    try:
        found: dict[SecretName, PasswordHash] = {}
        for name, (version, hashed) in json.loads(versions).items():
            namespace, _, secret = name.partition("/")
            found[namespace, secret] = PasswordHash(str(hashed), str(version))
        return found
    except (ValueError, AttributeError, TypeError):
        return {}


def server_of(plan: Plan, ref: ObjectRef) -> ObjectRef:
    """The MailServer that an object of a Plan belongs to."""
    for each in plan.objects:
        meta = each["metadata"]
        if (each["kind"], meta["namespace"], meta["name"]) == tuple(ref):
            return ObjectRef("MailServer", meta["namespace"], meta["labels"]["app.kubernetes.io/instance"])
    return ref


def is_files(ref: ObjectRef, server: ObjectRef) -> bool:
    """Whether this is one of the Secrets with the server's files."""
    mounts = tuple(f"{server.name}-{mount}" for mount in ("directory", "credentials"))
    return ref.kind == "Secret" and ref.namespace == server.namespace and ref.name.startswith(mounts)
