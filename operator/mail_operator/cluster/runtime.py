"""Kubernetes as the ground of the engine: reflectors observe, server-side apply and patches carry out."""

import asyncio
import base64
import datetime
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from mail_operator.cluster.applier import Applier
from mail_operator.cluster.cached import (
    CachedChild,
    CachedNamespace,
    CachedPod,
    CachedSecret,
    CachedService,
    cache_child,
    cache_namespace,
    cache_pod,
    cache_resource,
    cache_secret,
    cache_service,
)
from mail_operator.cluster.client import ApiClient, ApiError, Json
from mail_operator.cluster.kinds import CHILDREN, collection, path, sources
from mail_operator.cluster.pods import MailPods
from mail_operator.cluster.reflector import Key, Reflector, Reflectors
from mail_operator.cluster.removals import Sweeps
from mail_operator.cluster.rollouts import unblock
from mail_operator.compiler.domain_plan import BUCKETS
from mail_operator.compiler.plan import Manifest
from mail_operator.compiler.server import VERSIONS
from mail_operator.compiler.snapshot import PasswordHash, SecretName
from mail_operator.components.component import Component
from mail_operator.components.installation import bucket_secret
from mail_operator.engine.gathering import recovered
from mail_operator.engine.runtime import (
    FINALIZER,
    MADE_FOR,
    Applied,
    Changed,
    Observation,
    ObservedPod,
    ObservedResource,
    ObservedSecret,
    Program,
    SecretContent,
    Status,
    Timings,
    Unavailable,
)
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import API_VERSION, ObjectRef

AUTHORITY = "mailpods-ca"
MANAGED = "app.kubernetes.io/managed-by=mailpods"
MAIL_PODS = "app.kubernetes.io/name=mailpods,app.kubernetes.io/component"
_CREDENTIALS = "mailpods.io/credentials"  # the type of the Secrets with hashes


T = TypeVar("T")


class ClusterRuntime:
    """One for each operator. `close()` it at the end. `namespaces`: all that is looked at; none: all."""

    timings = Timings()
    issues_certificates = True

    def __init__(
        self, client: ApiClient, image: str, log: Callable[[str], None], namespaces: Sequence[str] = ()
    ) -> None:
        self._client, self._image, self._log = client, image, log
        self._tell: Changed = lambda ref: None
        self._interesting: frozenset[SecretName] | None = None  # all that matter; None: not known yet
        self._applied_once = False

        def teller(kind: str) -> Callable[[Key], None]:
            return lambda key: self._changed(ObjectRef(kind, *key))

        def reflect(
            kind: str,
            keep: Callable[[Json, T | None], T | None],
            changed: Callable[[Key], None] | None = None,
            labels: str = "",
            metadata_only: bool = False,
        ) -> Reflectors[T]:
            places = sources(kind, namespaces, labels, metadata_only)
            made = Reflectors(client, places, keep, changed or teller(kind), log)
            self._reflectors += made.each
            return made

        self._reflectors: list[Reflector[Any]] = []
        self.resources: dict[str, Reflectors[ObservedResource]] = {
            kind: reflect(kind, cache_resource(kind)) for kind in KINDS
        }
        self.children: dict[str, Reflectors[CachedChild]] = {
            kind: reflect(kind, cache_child, labels=MANAGED, metadata_only=True) for kind in CHILDREN
        }
        # Of Secrets the metadata alone, of all of them: so no label is needed for a change to be seen at
        # once, and no content is ever cached. Values are fetched by name.
        self.secrets: Reflectors[CachedSecret] = reflect(
            "Secret", cache_secret, self._secret_changed, metadata_only=True
        )
        self.namespaces: Reflectors[CachedNamespace] = reflect(
            "Namespace", cache_namespace, metadata_only=True
        )
        self.pods: Reflectors[CachedPod] = reflect("Pod", cache_pod, labels=MAIL_PODS)
        self.services: Reflectors[CachedService] = reflect(
            "Service", cache_service, teller("Address"), labels=MANAGED
        )
        self._applier = Applier(client, self._child, self._restored, log)
        self._pods = MailPods(client, lambda: self.pods.objects, log)
        self._sweeps = Sweeps(client, self._changed, log)

    # Observing ------------------------------------------------------------------------------------------

    def _changed(self, ref: ObjectRef) -> None:
        if ref.kind in ("Secret", *CHILDREN) and ref.name and self._child(ref) is None:
            self._applier.removed(ref)
        self._tell(ref)

    def _secret_changed(self, key: Key) -> None:
        if self._interesting is None or key in self._interesting:  # of others a cluster has many
            self._changed(ObjectRef("Secret", *key))

    async def run(self, changed: Changed) -> None:
        """Follow everything, and unblock rollouts."""
        self._tell = changed
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            tasks.create_task(unblock(self._client, lambda: self.pods.objects, self._log))

    async def synced(self) -> None:
        """Once every list is complete."""
        for reflector in self._reflectors:
            await reflector.complete.wait()

    def observe(self) -> Observation:
        """What the reflectors know."""
        resources = {
            ObjectRef(kind, *key): observed
            for kind, reflector in self.resources.items()
            for key, observed in reflector.objects.items()
        }
        ending = {
            ref: observed.uid
            for ref, observed in resources.items()
            if ref.kind == "MailDomain" and observed.deleting and observed.held
        }
        swept, unclear = self._sweeps.of(ending)
        return Observation(
            resources=resources,
            secrets=self.secrets.objects,
            namespaces={name: seen.labels for (_, name), seen in self.namespaces.objects.items()},
            addresses={
                ObjectRef("MailServer", namespace, service.server): service.addresses
                for (namespace, _), service in self.services.objects.items()
            },
            image=self._image,
            swept=swept,
            unclear=unclear,
        )

    def observed(self, ref: ObjectRef) -> ObservedResource | None:
        """What is cached of a custom resource."""
        return self.resources[ref.kind].get((ref.namespace, ref.name))

    def secret(self, name: SecretName) -> ObservedSecret | None:
        """What is cached of a Secret."""
        return self.secrets.get(name)

    def _child(self, ref: ObjectRef) -> CachedChild | None:
        """What is cached of an object that the operator applies."""
        key = (ref.namespace, ref.name)
        if ref.kind == "Secret":
            return seen.child if (seen := self.secrets.get(key)) else None
        # Certificates are not watched: a cluster need not have the kind, and cert-manager changes them.
        children = self.children.get(ref.kind)
        return children.get(key) if children else None

    def care_for(self, names: Collection[SecretName]) -> None:
        """Of other Secrets nothing is told."""
        self._interesting = frozenset(names)

    async def remembered_hashes(self, servers: Mapping[ObjectRef, str]) -> Mapping[SecretName, PasswordHash]:
        """Of the Secrets that carry the credentials: by their exact names, their owner and their type."""
        found: dict[SecretName, PasswordHash] = {}
        for server, uid in servers.items():
            for bucket in range(BUCKETS):
                name = (server.namespace, bucket_secret(server.name, "credentials", bucket))
                seen = self.secrets.get(name)
                if seen is None or not seen.child.owner or seen.child.owner[2] != uid:
                    continue
                secret = await self._client.get(path(ObjectRef("Secret", *name)))
                if secret.get("type") == _CREDENTIALS:
                    found |= recovered(_values(secret).get(VERSIONS, b""))
        return found

    # Secrets --------------------------------------------------------------------------------------------

    async def read_secret(self, name: SecretName) -> SecretContent | None:
        """GET."""
        try:
            secret = await self._client.get(path(ObjectRef("Secret", *name)))
        except ApiError as error:
            if error.code == 404:
                return None
            raise Unavailable(error.reason) from error
        seen = cache_secret(secret, None)
        return SecretContent(seen.mark, _values(secret), seen.made)

    async def create_secret(
        self, name: SecretName, type_: str, owner_kind: str, values: Mapping[str, bytes]
    ) -> None:
        """POST. It has no owner, so that no accident takes a password away with what it was made for."""
        namespace, plain = name
        labels = {MADE_FOR: owner_kind, "app.kubernetes.io/part-of": "mailpods"}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": plain, "namespace": namespace, "labels": labels},
            "type": type_,
            "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
        }
        try:
            await self._client.create(collection("Secret", namespace), body)
        except ApiError as error:
            if error.code != 409:
                raise

    async def change_secret(self, name: SecretName, mark: str, changes: Mapping[str, bytes | None]) -> None:
        """PATCH of just this version."""
        data = {key: base64.b64encode(v).decode() if v is not None else None for key, v in changes.items()}
        meta = {"resourceVersion": mark.rpartition("/")[2]}
        await self._client.merge(path(ObjectRef("Secret", *name)), {"metadata": meta, "data": data})

    def authority(self) -> SecretName:
        """In the operator's own namespace."""
        return self._client.namespace, AUTHORITY

    # Carrying out ---------------------------------------------------------------------------------------

    async def allocate(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        """By server-side apply without force."""
        meta = {"name": ref.name, "namespace": ref.namespace}
        body = {"apiVersion": API_VERSION, "kind": ref.kind, "metadata": meta}
        try:
            for field, value in patch.items():
                # A manager for each field: one that applies the second takes back the first.
                await self._client.apply(
                    path(ref), {**body, "spec": {field: value}}, force=False, manager=f"mailpods-{field}"
                )
        except ApiError as error:
            if error.code in (404, 409, 422):
                return False
            raise
        return True

    async def apply(
        self, objects: Sequence[Manifest], owners: Mapping[ObjectRef, str], paused: Collection[ObjectRef]
    ) -> Applied:
        """By server-side apply; what belongs to no server any more goes by its owner reference."""
        owners = {server: uid for server, uid in owners.items() if server not in paused}
        if not self._applied_once:
            await self._applier.verify(objects)
            self._applied_once = True
        written = await self._applier.apply(objects, owners)
        return Applied(frozenset(written), dict(self._applier.failed))

    async def _restored(self, workload: ObjectRef, server: ObjectRef, what: str) -> None:
        text = f"{what} was taken out of the pod template of {workload}: all of that is Mailpods'."
        if seen := self.observed(server):
            await self.event(server, seen.uid, "Warning", "TemplateRestored", text)

    async def prune(self, refs: Collection[ObjectRef]) -> bool:
        """DELETE."""
        return await self._applier.prune(refs)

    async def delete(self, ref: ObjectRef) -> None:
        """DELETE."""
        await self._client.delete(path(ref))

    async def hold(self, ref: ObjectRef) -> None:
        """By server-side apply."""
        meta = {"name": ref.name, "namespace": ref.namespace, "finalizers": [FINALIZER]}
        body = {"apiVersion": API_VERSION, "kind": ref.kind, "metadata": meta}
        try:
            await self._client.apply(path(ref), body, manager="mailpods-endings")
        except ApiError as error:
            if error.code != 404:
                raise

    async def release(self, ref: ObjectRef) -> None:
        """Not by apply: who put back a backup owns the finalizer as well, for the manifest has it."""
        item = await self._client.find(collection(ref.kind, ref.namespace), ref.name)
        if item is None:
            return
        others = [each for each in item["metadata"].get("finalizers", ()) if each != FINALIZER]
        change = {"finalizers": others, "resourceVersion": item["metadata"]["resourceVersion"]}
        try:
            await self._client.merge(path(ref), {"metadata": change})
        except ApiError as error:
            if error.code != 404:
                raise

    # Pods -----------------------------------------------------------------------------------------------

    def programs(self, components: Sequence[Component]) -> Sequence[Program]:
        """Of pods that are ready."""
        return list(self._pods.programs(components))

    def observed_pods(self) -> Sequence[ObservedPod]:
        """By what their kubelets say."""
        return self._pods.observed()

    def replicas(self, workload: Manifest) -> int:
        """As it is written."""
        wanted: int = workload["spec"]["replicas"]
        return wanted

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """At its admin port."""
        return await self._pods.ask(program)

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        """Through their Services."""
        return await self._pods.reaches(server, components)

    async def hurry(self, servers: Collection[ObjectRef]) -> None:
        """By a touch of the pods."""
        await self._pods.touch(servers, str(time.time_ns()))

    # Telling --------------------------------------------------------------------------------------------

    async def publish(self, ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        """PATCH of the status; null takes a field away (RFC 7386)."""
        try:
            await self._merge(ref, {**dict.fromkeys(removed), **status})
        except ApiError as error:
            if error.code != 404:
                raise

    async def _merge(self, ref: ObjectRef, status: Status) -> None:
        """Write the status, without those of its parts that the API server refuses: conditions matter most.

        Raises ApiError where nothing is left, or where the conditions themselves are refused.
        """
        try:
            await self._client.merge(path(ref, "status"), {"status": status})
        except ApiError as error:
            refused = {name for name in status if any(_is_in(field, name) for field in error.fields)}
            if error.code != 422 or not refused or "conditions" in refused:
                raise
            parts = ", ".join(f"status.{name}" for name in sorted(refused))
            self._log(f"{ref}: {parts} not written, as the schema refuses it, the rest is: {error}")
            left = {name: value for name, value in status.items() if name not in refused}
            await self._client.merge(path(ref, "status"), {"status": left})

    async def event(self, ref: ObjectRef, uid: str, type_: str, reason: str, message: str) -> None:
        """POST."""
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        about = {"apiVersion": API_VERSION, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
        event = {
            "metadata": {"generateName": f"{ref.name[:40]}.", "namespace": ref.namespace},
            "involvedObject": {**about, "uid": uid},
            "type": type_,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": "mailpods"},
            "reportingComponent": "mailpods.io/operator",
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self._client.create(collection("Event", ref.namespace), event)

    def round_ended(self) -> None:
        """All is written."""

    async def close(self) -> None:
        """Close what is open."""
        await self._pods.close()


def _values(secret: Mapping[str, Any]) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _is_in(field: str, name: str) -> bool:
    """Whether a field, as status.dns.records[3], is in that part of the status."""
    return field.removeprefix("status.").partition(".")[0].partition("[")[0] == name
