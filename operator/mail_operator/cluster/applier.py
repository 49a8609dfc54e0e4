"""Makes the cluster hold the objects of a Plan: by server-side apply, and only where something differs.

Each object bears a hash of what was applied. What somebody changes by hand is put back as soon as it is seen.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp

from mail_operator.cluster.cached import HASH, CachedChild, CachedSecret, cache_child, cache_secret
from mail_operator.cluster.client import ApiClient, ApiError, Json
from mail_operator.cluster.kinds import path, ref_of
from mail_operator.compiler.plan import wire
from mail_operator.kinds.meta import API_VERSION, ObjectRef

_AT_ONCE = 8
Kept = CachedChild | CachedSecret


class Applier:
    """One for each operator."""

    def __init__(
        self, client: ApiClient, child: Callable[[ObjectRef], Kept | None], log: Callable[[str], None]
    ) -> None:
        self._client, self._child, self._log = client, child, log
        self._applied: dict[ObjectRef, Kept] = {}
        # The manifest, its owner, and the hash of both: the whole is made when it is applied.
        self._prepared: dict[ObjectRef, tuple[Mapping[str, Any], Json, str]] = {}
        self._removed: set[ObjectRef] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.failed: dict[ObjectRef, str] = {}

    def distrust(self, ref: ObjectRef) -> None:
        """The object is not what its hash says: apply it again."""
        self._applied[ref] = CachedChild(None, "", 0)

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
        if known and known[0] is manifest:
            return ref
        server = server_of(manifest)
        if server not in owners:
            return None
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
            if there is None or there.hash != wanted:
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

    def server_of(self, ref: ObjectRef) -> ObjectRef:
        """The MailServer that an object once prepared belongs to."""
        return server_of(self._prepared[ref][0])

    async def _apply(self, ref: ObjectRef) -> bool:
        manifest, owner, digest = self._prepared[ref]
        body = _owned(manifest, owner)
        body["metadata"]["annotations"] = {**manifest["metadata"].get("annotations", {}), HASH: digest}
        async with self._slots:
            try:
                answer = await self._client.apply(path(ref), body)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                self.failed[ref] = _why(ref, error)
                self._log(f"{ref}: not applied: {error!r}")
                return False
        cached: Kept = cache_secret(answer, None) if ref.kind == "Secret" else cache_child(answer, None)
        self._applied[ref] = cached
        self._removed.discard(ref)
        return True

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
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                if not (isinstance(error, ApiError) and error.code == 404):
                    self._log(f"{ref}: not deleted: {error!r}")
                    ok = False
            self._applied.pop(ref, None)
            self._prepared.pop(ref, None)
        return ok

    async def verify(self, secrets: Iterable[Mapping[str, Any]]) -> None:
        """Compare the content of Secrets that were applied before: the hash they bear may be a lie."""
        for manifest in secrets:
            ref = ref_of(manifest)
            if self._child(ref) is None:
                continue
            there = await self._client.get(path(ref))
            if there.get("data", {}) != wire(manifest)["data"]:
                self.distrust(ref)


def _why(ref: ObjectRef, error: Exception) -> str:
    if ref.kind == "Certificate" and isinstance(error, ApiError) and error.code == 404:
        return "the cluster has no such kind: install cert-manager, or leave spec.tls.issuerRef blank"
    return str(error) or repr(error)


def _owned(manifest: Mapping[str, Any], owner: Json) -> Json:
    """An object as it is applied, but for its hash."""
    metadata = {**manifest["metadata"], "ownerReferences": [owner]}
    return {**wire(manifest), "metadata": metadata}


def server_of(manifest: Mapping[str, Any]) -> ObjectRef:
    """The MailServer that an object of a Plan belongs to."""
    meta = manifest["metadata"]
    return ObjectRef("MailServer", meta["namespace"], meta["labels"]["app.kubernetes.io/instance"])


def decoded(secret: Mapping[str, Any], key: str) -> bytes:
    """One value of a Secret as the API server gives it, b"" where there is none."""
    try:
        return base64.b64decode(secret.get("data", {}).get(key, ""))
    except ValueError:
        return b""
