"""Makes the cluster hold the objects of a Plan: by server-side apply, and only where something differs.

Each object bears a hash of what was applied. What somebody changes by hand is put back as soon as it is seen.
What somebody else made under such a name is left alone, and told: a name is no proof.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from mail_operator.cluster.cached import HASH, CachedChild, cache_child
from mail_operator.cluster.client import ApiClient, ApiError, Json
from mail_operator.cluster.kinds import collection, path, ref_of
from mail_operator.cluster.volumes import grow
from mail_operator.compiler.plan import wire
from mail_operator.engine.runtime import Unavailable
from mail_operator.kinds.meta import API_VERSION, ObjectRef
from mail_operator.policies.verdict import Verdict

_AT_ONCE = 8
_WORKLOADS = ("StatefulSet", "Deployment")


class Applier:
    """One for each operator."""

    def __init__(
        self,
        client: ApiClient,
        child: Callable[[ObjectRef], CachedChild | None],
        restored: Callable[[ObjectRef, ObjectRef, str], Awaitable[None]],
        log: Callable[[str], None],
    ) -> None:
        """`restored` is told of a workload whose template somebody changed, of its MailServer, and what."""
        self._client, self._child, self._restored, self._log = client, child, restored, log
        self._applied: dict[ObjectRef, CachedChild] = {}
        # The manifest, its owner, and the hash of both: the whole is made when it is applied.
        self._prepared: dict[ObjectRef, tuple[Mapping[str, Any], Json, str]] = {}
        self._removed: set[ObjectRef] = set()
        self._doubted: set[ObjectRef] = set()  # whose hash may be a lie
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.failed: dict[ObjectRef, Verdict] = {}

    async def apply(
        self, manifests: Iterable[Mapping[str, Any]], owners: Mapping[ObjectRef, str]
    ) -> set[ObjectRef]:
        """Apply what differs, Secrets first, so that pods find their files.

        `owners`: MailServer -> uid. Returns what was written; `failed` says what was not.
        """
        written: set[ObjectRef] = set()
        self.failed = {}
        waves: tuple[list[ObjectRef], list[ObjectRef]] = ([], [])
        for manifest in manifests:
            ref = self._prepare(manifest, owners)
            if ref is not None and self._differs(ref):
                waves[ref.kind != "Secret"].append(ref)
        for wave in waves:
            done = await asyncio.gather(*(self._apply(ref) for ref in wave))
            written |= {ref for ref, ok in zip(wave, done, strict=True) if ok}
        return written

    def _prepare(self, manifest: Mapping[str, Any], owners: Mapping[ObjectRef, str]) -> ObjectRef | None:
        ref = ref_of(manifest)
        known = self._prepared.get(ref)
        server = server_of(manifest)
        if server not in owners:
            return None
        if known and known[0] is manifest and known[1]["uid"] == owners[server]:
            return ref
        owner = {
            "apiVersion": API_VERSION,
            "kind": "MailServer",
            "name": server.name,
            "uid": owners[server],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        digest = hashlib.sha256(json.dumps(_owned(manifest, owner), sort_keys=True).encode()).hexdigest()[:32]
        self._prepared[ref] = (manifest, owner, digest)
        return ref

    def _differs(self, ref: ObjectRef) -> bool:
        there, applied, wanted = self._child(ref), self._applied.get(ref), self._prepared[ref][2]
        if applied is None:
            if there is None or there.hash != wanted or ref in self._doubted:
                return True
            self._applied[ref] = there  # by an operator before this one; what changes from now on is seen
            return False
        if applied.hash != wanted:
            return True
        if there is None or there.version <= applied.version:
            return ref in self._removed  # or else the watch has not brought yet what was just applied
        return there.hash != wanted or there.mark != applied.mark

    def removed(self, ref: ObjectRef) -> None:
        """Somebody deleted the object."""
        self._removed.add(ref)

    async def _apply(self, ref: ObjectRef) -> bool:
        manifest, owner, digest = self._prepared[ref]
        body = _owned(manifest, owner)
        body["metadata"]["annotations"] = {**manifest["metadata"].get("annotations", {}), HASH: digest}
        async with self._slots:
            try:
                if foreign := await self._foreign(ref, owner):
                    self.failed[ref] = foreign
                    return False
                try:
                    answer = await self._client.apply(path(ref), body, force=ref.kind != "Certificate")
                except ApiError as error:
                    if error.code != 422 or ref.kind != "StatefulSet" or not await grow(self._client, body):
                        raise
                    text = f"{ref} is made anew, for its volumes grow; its pods go on meanwhile."
                    self.failed[ref] = Verdict("NotApplied", text, waits=True)
                    self._log(text)
                    return False
                if ref.kind in _WORKLOADS and (added := added_to_template(answer)):
                    answer = await self._client.replace(path(ref), "/spec/template", _template(body, answer))
                    self._log(f"{ref}: taken out of its template: {', '.join(added)}")
                    await self._restored(ref, server_of(manifest), ", ".join(added))
            except Unavailable as error:
                self.failed[ref] = Verdict("NotApplied", f"{ref}: {_why(ref, error)}", waits=True)
                self._log(f"{ref}: not applied: {error}")
                return False
        self._applied[ref] = cache_child(answer, None)
        self._removed.discard(ref)
        self._doubted.discard(ref)
        return True

    async def _foreign(self, ref: ObjectRef, owner: Json) -> Verdict | None:
        """Whether somebody else's object has the name."""
        if ref.kind == "Certificate":  # which the operator may not list
            return None
        there = self._child(ref)
        if there is None:
            if ref in self._applied and ref not in self._removed:
                return None  # the watch has not brought it yet
            item = await self._client.find(collection(ref.kind, ref.namespace), ref.name, metadata_only=True)
            if item is None:
                return None
            there = cache_child(item, None)
        if there.is_ours(owner["name"], owner["uid"]):
            return None
        text = (
            f"{ref} is not of Mailpods' making and stays as it is: take it away, or name the MailServer anew."
        )
        return Verdict("ObjectForeign", text, waits=True)

    async def prune(self, gone: Iterable[ObjectRef]) -> bool:
        """Delete what a server has no longer, where we applied it. Whether all went well."""
        ok = True
        for ref in gone:
            # Certificates are not watched: of those the ones that this process applied.
            there = self._child(ref) or self._applied.get(ref)
            if there is None or not there.hash:
                continue
            try:
                await self._client.delete(path(ref))
            except Unavailable as error:
                self._log(f"{ref}: not deleted: {error}")
                ok = False
            self._applied.pop(ref, None)
            self._prepared.pop(ref, None)
        return ok

    async def verify(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Look at what was applied before: the hash that it bears may be a lie.

        The content of Secrets is compared; to apply a workload once more changes nothing by itself.
        """
        for manifest in manifests:
            ref = ref_of(manifest)
            if self._child(ref) is None:
                continue
            if ref.kind in _WORKLOADS:
                self._doubted.add(ref)
            elif ref.kind == "Secret":
                there = await self._client.get(path(ref))
                if there.get("data", {}) != wire(manifest)["data"]:
                    self._doubted.add(ref)


def _why(ref: ObjectRef, error: Exception) -> str:
    if ref.kind == "Certificate" and isinstance(error, ApiError) and error.code == 404:
        return "the cluster has no such kind: install cert-manager, or leave spec.tls.issuerRef blank"
    return str(error) or repr(error)


def added_to_template(workload: Json) -> list[str]:
    """The fields that others own in a pod template, by its managedFields: as spec.nodeSelector.

    What `kubectl rollout restart` writes is no field of theirs: it says when, and nothing else.
    """
    found = set()
    for entry in workload["metadata"].get("managedFields", ()):
        if entry.get("manager", "").startswith("mailpods") or entry.get("subresource"):
            continue
        template = entry.get("fieldsV1", {}).get("f:spec", {}).get("f:template", {})
        found |= set(_leaves(template))
    return sorted(name for name in found if "kubectl.kubernetes.io/" not in name)


def _leaves(fields: Json, at: str = "") -> Iterator[str]:
    for key, below in fields.items():
        if key == ".":
            continue
        name = f"{at}.{key.removeprefix('f:')}" if at else key.removeprefix("f:")
        below = {k: v for k, v in below.items() if k != "."}
        if below:
            yield from _leaves(below, name)
        else:
            yield name


def _template(body: Json, live: Json) -> Json:
    """Our template, with the time of a restart that somebody asked for."""
    template: Json = body["spec"]["template"]
    there = live["spec"]["template"].get("metadata", {}).get("annotations", {})
    kept = {key: value for key, value in there.items() if key.startswith("kubectl.kubernetes.io/")}
    if not kept:
        return template
    meta = template.get("metadata", {})
    return {**template, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), **kept}}}


def _owned(manifest: Mapping[str, Any], owner: Json) -> Json:
    """An object as it is applied, but for its hash."""
    metadata = {**manifest["metadata"], "ownerReferences": [owner]}
    return {**wire(manifest), "metadata": metadata}


def server_of(manifest: Mapping[str, Any]) -> ObjectRef:
    """The MailServer that an object of a Plan belongs to."""
    meta = manifest["metadata"]
    return ObjectRef("MailServer", meta["namespace"], meta["labels"]["app.kubernetes.io/instance"])
