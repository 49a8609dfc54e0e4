"""What is there, as compile() sees it: a Snapshot of all reflectors, and of the Secrets that are named."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from mail_operator.cluster.cached import (
    FINALIZER,
    CachedChild,
    CachedPod,
    CachedResource,
    CachedSecret,
    CachedService,
    cache_child,
    cache_labels,
    cache_pod,
    cache_resource,
    cache_secret,
    cache_service,
)
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.finalizer import number_of
from mail_operator.cluster.kinds import CHILDREN, collection
from mail_operator.cluster.reflector import Key, Reflector, Source
from mail_operator.cluster.secrets import Secrets
from mail_operator.compiler import dkim
from mail_operator.compiler.plan import Plan
from mail_operator.compiler.server import CONFIRM_REMOVAL
from mail_operator.compiler.snapshot import PasswordHash, SecretName, Snapshot
from mail_operator.compiler.topology import server_of
from mail_operator.engine.dns_prober import DnsProber
from mail_operator.kinds import KINDS, Resource
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.relaypolicy import RelayPolicy
from mail_operator.policies.relay import smarthosts

# More domains at once than either are taken for an accident.
GUARD_COUNT, GUARD_SHARE = 10, 0.2
CONFIRMED = (CONFIRM_REMOVAL, "mail")  # annotation of a MailDomain whose end is meant
MANAGED = "app.kubernetes.io/managed-by=mailpods"
MAIL_PODS = "app.kubernetes.io/name=mailpods,app.kubernetes.io/component"


class ClusterState:
    """`changed` is told the reference of whatever changed."""

    def __init__(
        self, client: ApiClient, image: str, changed: Callable[[ObjectRef], None], log: Callable[[str], None]
    ) -> None:
        self._image, self._log = image, log
        self._tell = changed
        # Written into spec, and not seen there yet: the object's uid, and what.
        self._allocated: dict[ObjectRef, tuple[str, Mapping[str, Any]]] = {}
        self._overlays: dict[ObjectRef, tuple[Resource, Resource]] = {}
        self._hashes: set[SecretName] = set()  # Secrets with passwords
        self._interesting: set[SecretName] | None = None  # all that matter; None: not known yet

        def teller(kind: str) -> Callable[[Key], None]:
            return lambda key: changed(ObjectRef(kind, *key))

        def source(kind: str, labels: str = "", metadata_only: bool = False) -> Source:
            return Source(collection(kind), labels, metadata_only)

        self.resources: dict[str, Reflector[CachedResource]] = {
            kind: Reflector(client, source(kind), cache_resource(kind), teller(kind), log) for kind in KINDS
        }
        # Of Secrets the metadata alone, of all of them: so no label is needed for a change to be seen at
        # once, and no content is ever cached. Values are fetched by name (secrets.py).
        self.secret_versions: Reflector[CachedSecret] = Reflector(
            client, source("Secret", metadata_only=True), cache_secret, self._secret_changed, log
        )
        self.namespaces: Reflector[dict[str, str]] = Reflector(
            client, source("Namespace", metadata_only=True), cache_labels, teller("Namespace"), log
        )
        self.pods: Reflector[CachedPod] = Reflector(
            client, source("Pod", MAIL_PODS), cache_pod, teller("Pod"), log
        )
        self.children: dict[str, Reflector[CachedChild]] = {
            kind: Reflector(client, source(kind, MANAGED, True), cache_child, teller(kind), log)
            for kind in CHILDREN
        }
        self.services: Reflector[CachedService] = Reflector(
            client, source("Service", MANAGED), cache_service, teller("Address"), log
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dns = DnsProber(self._answered)
        self.secrets = Secrets(client, lambda: changed(ObjectRef("Secret", "", "")), log)

    def _answered(self) -> None:
        """DNS said something new, in another thread."""
        if self._loop:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._tell, ObjectRef("Answer", "", ""))

    def _secret_changed(self, key: Key) -> None:
        if self._interesting is not None and key not in self._interesting:
            return  # of which a cluster has many
        if key in self._hashes:
            self.secrets.renew(key, self.secret_versions.get(key))  # at once, not after the quiet moment
        self._tell(ObjectRef("Secret", *key))

    @property
    def reflectors(self) -> list[Reflector[Any]]:
        """All of them."""
        return [
            *self.resources.values(),
            *self.children.values(),
            self.secret_versions,
            self.namespaces,
            self.pods,
            self.services,
        ]

    def cached(self, ref: ObjectRef) -> CachedResource | None:
        """What is cached of a custom resource."""
        return self.resources[ref.kind].get((ref.namespace, ref.name))

    def child(self, ref: ObjectRef) -> CachedChild | CachedSecret | None:
        """What is cached of an object that the operator applies."""
        key = (ref.namespace, ref.name)
        if ref.kind == "Secret":
            return self.secret_versions.get(key)
        # Certificates are not watched: a cluster need not have the kind, and cert-manager changes them.
        children = self.children.get(ref.kind)
        return children.get(key) if children else None

    def snapshot(self, plan: Plan) -> Snapshot:
        """Everything, now. `plan`: the last one, which says what Secrets it wants made."""
        self._loop = asyncio.get_running_loop()
        objects = dict(self._objects())
        hashes = {(r.ref.namespace, name) for r in objects.values() if (name := r.password_secret())}
        hashes |= {(s.namespace, s.name) for s in plan.secrets if s.kind == "password"}
        wholes = {name for r in objects.values() for name in _named(r)}
        files = {
            (o["metadata"]["namespace"], o["metadata"]["name"]) for o in plan.objects if o["kind"] == "Secret"
        }
        made = {(s.namespace, s.name) for s in plan.secrets}
        self._hashes, self._interesting = hashes, hashes | wholes | files | made
        passwords, contents = self.secrets.look(hashes, wholes, self.secret_versions.objects)
        return Snapshot(
            objects=objects,
            passwords=passwords,
            secrets=contents,
            namespaces={name: labels for (_, name), labels in self.namespaces.objects.items()},
            image=self._image,
            served=self._served(objects),
            wiped={server: frozenset(numbers) for server, numbers in self.wiped().items()},
            addresses={
                ObjectRef("MailServer", namespace, service.server): service.addresses
                for (namespace, _), service in self.services.objects.items()
            },
            answers=self._dns.look(plan.questions),
        )

    def ask(self, plan: Plan) -> None:
        """Begin to ask DNS what a new plan wants to know; news of it is told as a change."""
        self._dns.look(plan.questions)

    def allocated(self, ref: ObjectRef, patch: Mapping[str, Any]) -> None:
        """This was written into an object's spec: it holds from now on, before the watch brings it."""
        cached = self.cached(ref)
        if cached is not None:
            self._allocated[ref] = (cached.made_of[0], patch)

    def _overlaid(self, ref: ObjectRef, uid: str, resource: Resource) -> Resource:
        """The resource with what was written into its spec just now; the same object each time."""
        of, patch = self._allocated.get(ref, ("", {}))
        if of != uid:  # nothing, or an object of this name that is gone
            self._allocated.pop(ref, None)
            self._overlays.pop(ref, None)
            return resource
        known = self._overlays.get(ref)
        if known is None or known[0] is not resource:
            spec = resource.spec  # type: ignore[attr-defined]
            given = spec.model_dump(by_alias=True, exclude_unset=True)
            if all(given.get(field) is not None for field in patch):
                del self._allocated[ref]
                self._overlays.pop(ref, None)
                return resource
            full = type(spec).model_validate({**patch, **given})
            known = self._overlays[ref] = (resource, resource.model_copy(update={"spec": full}))
        return known[1]

    def _served(self, objects: Mapping[ObjectRef, Resource]) -> frozenset[ObjectRef]:
        """Mailboxes that had mail before there were several shards to choose from."""
        servers = (r for r in objects.values() if isinstance(r, MailServer))
        if all(server.spec.store.shards == 1 for server in servers):
            return frozenset()
        return frozenset(
            ref
            for key, cached in self.resources["Mailbox"].objects.items()
            for ref in [ObjectRef("Mailbox", *key)]
            if b'"account":' in cached.status
            and isinstance(mailbox := objects.get(ref), Mailbox)
            and mailbox.spec.shard is None
        )

    def wiped(self) -> dict[ObjectRef, set[int]]:
        """The domains that are being deleted with all their mail: MailServer -> numbers.

        All domains of a server at once, or very many, are taken for an accident, as when the kind itself is
        deleted: those are wiped only when each says by an annotation that it is meant.
        """
        ending: dict[ObjectRef, list[tuple[int, CachedResource]]] = {}
        alive: Counter[ObjectRef] = Counter()
        for cached in self.resources["MailDomain"].objects.values():
            domain = cached.resource
            if not isinstance(domain, MailDomain):
                continue
            if not cached.deleting:
                alive[server_of(domain)] += 1
            elif (
                cached.held
                and domain.spec.deletion_policy == "Delete"
                and (number := number_of(cached)) is not None  # read from the status: not of all that stay
            ):
                ending.setdefault(server_of(domain), []).append((number, cached))
        found: dict[ObjectRef, set[int]] = {}
        for server, domains in ending.items():
            total = alive[server] + len(domains)
            sudden = not alive[server] or len(domains) > max(GUARD_COUNT, int(total * GUARD_SHARE))
            meant = {number for number, cached in domains if not sudden or CONFIRMED in cached.made_of[2]}
            if len(meant) < len(domains):
                self._log(
                    f"{server}: {len(domains) - len(meant)} domains with deletionPolicy Delete end at once, "
                    f"as by accident: their mail stays until each is annotated {CONFIRMED[0]}="
                    f"{CONFIRMED[1]}, or their finalizer {FINALIZER} is removed, and they go without it"
                )
            if meant:
                found[server] = meant
        return found

    def _objects(self) -> Iterator[tuple[ObjectRef, Resource]]:
        for reflector in self.resources.values():
            for cached in reflector.objects.values():
                if cached.resource is not None and not cached.deleting:
                    ref = cached.resource.ref
                    yield ref, self._overlaid(ref, cached.made_of[0], cached.resource)

    def domains(self) -> list[tuple[ObjectRef, CachedResource]]:
        """All of them, those that are being deleted, too."""
        return [(ObjectRef("MailDomain", *key), k) for key, k in self.resources["MailDomain"].objects.items()]

    def invalid(self) -> Iterator[tuple[ObjectRef, CachedResource]]:
        """The resources whose newest version this operator cannot read."""
        for kind, reflector in self.resources.items():
            for key, cached in reflector.objects.items():
                if cached.problems:
                    yield ObjectRef(kind, *key), cached


def _named(resource: Resource) -> Iterator[SecretName]:
    """The Secrets that a resource names whose content compile() needs."""
    if isinstance(resource, MailServer) and (resource.spec.tls.secret_name or resource.spec.tls.issuer_ref):
        yield resource.metadata.namespace, resource.certificate_secret
    if isinstance(resource, RelayPolicy):
        for _, smarthost in smarthosts(resource.spec):
            if smarthost.auth_secret_ref:
                yield resource.metadata.namespace, smarthost.auth_secret_ref.name
    if isinstance(resource, MailDomain) and resource.spec.dkim.enabled:
        yield resource.metadata.namespace, dkim.secret_name(resource.metadata.name)
    if isinstance(resource, Mailbox) and resource.spec.smarthost_auth:
        yield resource.metadata.namespace, resource.spec.smarthost_auth.password_secret_ref.name


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
