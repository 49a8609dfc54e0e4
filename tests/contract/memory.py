"""The smallest harness of the engine: all lies in dictionaries, and pods load files at once, if they may."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mail_operator.compiler.plan import Manifest
from mail_operator.compiler.snapshot import PasswordHash, SecretName
from mail_operator.components.component import Component
from mail_operator.engine.runtime import (
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
from mail_operator.kinds import load
from mail_operator.kinds.meta import ObjectRef

from mailpods.directory.shards import content_hash


class MemoryRuntime:
    """`put()` and `remove()` objects from the loop's thread; pods of `frozen` components load nothing."""

    timings = Timings(quiet=0.0, acknowledge=0.0, ask=0.02, patience=0.0, retry=0.2, first_settle=1.0)
    issues_certificates = False

    def __init__(self) -> None:
        self.resources: dict[ObjectRef, ObservedResource] = {}
        self.documents: dict[ObjectRef, dict[str, Any]] = {}
        self.secrets: dict[SecretName, SecretContent] = {}
        self.objects: dict[ObjectRef, Manifest] = {}
        self.hashes: dict[SecretName, PasswordHash] = {}
        self.swept: dict[ObjectRef, str] = {}
        self.events: list[tuple[ObjectRef, str]] = []
        self.writes: Counter[str] = Counter()
        self.frozen: frozenset[str] = frozenset()
        self.down: frozenset[str] = frozenset()  # components without a pod that is ready
        self.restarts = 0
        self.unavailable = False
        self.loaded: dict[str, Mapping[str, str]] = {}
        self.changed: Changed = lambda ref: None
        self._versions = 0

    # What a person does -----------------------------------------------------------------------------------

    def put(self, document: Mapping[str, Any]) -> None:
        """Create an object, or replace its spec."""
        content = json.loads(json.dumps(document))
        meta = content["metadata"]
        ref = ObjectRef(content["kind"], meta["namespace"], meta["name"])
        if ref.kind == "Secret":
            values = {key: value.encode() for key, value in content["stringData"].items()}
            self._set_secret(ref[1:], values, made=False)
            return
        before = self.resources.get(ref)
        if before is None:
            self._versions += 1
        uid = before.uid if before else f"uid-{self._versions}"
        generation = before.made_of[1] + 1 if before else 1
        known = self.documents.get(ref, {}).get("spec", {})
        given = {k: v for k, v in known.items() if k in ("number", "loginName", "shard")}
        content["spec"] = {**given, **content["spec"]}
        self.documents[ref] = content
        annotations = tuple(sorted(meta.get("annotations", {}).items()))
        self.resources[ref] = ObservedResource(
            made_of=(uid, generation, annotations),
            resource=load(content),
            problems=(),
            deleting=before.deleting if before else False,
            held=before.held if before else False,
            status=before.status if before else b"{}",
        )
        self.changed(ref)

    def remove(self, ref: ObjectRef) -> None:
        """Delete it; who is held stays, marked."""
        if ref.kind == "Secret":
            del self.secrets[ref[1:]]
        elif self.resources[ref].held:
            self.resources[ref] = replace(self.resources[ref], deleting=True)
        else:
            del self.resources[ref], self.documents[ref]
        self.changed(ref)

    def _set_secret(self, name: SecretName, values: Mapping[str, bytes], made: bool) -> None:
        self._versions += 1
        self.secrets[name] = SecretContent(f"v{self._versions}", dict(values), made)
        self.changed(ObjectRef("Secret", *name))

    # The engine's -----------------------------------------------------------------------------------------

    async def run(self, changed: Changed) -> None:
        """Changes are told as they are made."""
        self.changed = changed
        await asyncio.Event().wait()

    async def synced(self) -> None:
        """Always."""

    def observe(self) -> Observation:
        """What is there."""
        secrets = {name: ObservedSecret(held.mark, held.made) for name, held in self.secrets.items()}
        age = {ref: n for n, ref in enumerate(self.resources)}
        return Observation(dict(self.resources), secrets, age=age, swept=dict(self.swept))

    def observed(self, ref: ObjectRef) -> ObservedResource | None:
        """One of it."""
        return self.resources.get(ref)

    def secret(self, name: SecretName) -> ObservedSecret | None:
        """One of it."""
        held = self.secrets.get(name)
        return ObservedSecret(held.mark, held.made) if held else None

    def care_for(self, names: Collection[SecretName]) -> None:
        """All are told."""

    async def remembered_hashes(self, servers: Mapping[ObjectRef, str]) -> Mapping[SecretName, PasswordHash]:
        """As a test says."""
        return self.hashes

    async def read_secret(self, name: SecretName) -> SecretContent | None:
        """Of the dictionary."""
        return self.secrets.get(name)

    async def create_secret(
        self, name: SecretName, type_: str, owner_kind: str, values: Mapping[str, bytes]
    ) -> None:
        """Into the dictionary."""
        if name not in self.secrets:
            self.writes["secret"] += 1
            self._set_secret(name, values, made=True)

    async def change_secret(self, name: SecretName, mark: str, changes: Mapping[str, bytes | None]) -> None:
        """In the dictionary."""
        held = self.secrets[name]
        if held.mark != mark:
            raise Unavailable("it changed meanwhile")
        self.writes["secret"] += 1
        merged = {**held.values, **changes}
        self._set_secret(name, {k: v for k, v in merged.items() if v is not None}, held.made)

    def authority(self) -> SecretName:
        """In a namespace of its own."""
        return "operator", "mailpods-ca"

    async def allocate(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        """Into the document."""
        document = self.documents[ref]
        self.writes["allocation"] += 1
        self.put({**document, "spec": {**document["spec"], **patch}})
        return True

    async def apply(
        self, objects: Sequence[Manifest], owners: Mapping[ObjectRef, str], paused: Collection[ObjectRef]
    ) -> Applied:
        """Into the dictionary."""
        if self.unavailable:
            raise Unavailable("away")
        written = set()
        for each in objects:
            meta = each["metadata"]
            ref = ObjectRef(each["kind"], meta["namespace"], meta["name"])
            server = ObjectRef("MailServer", ref.namespace, meta["labels"]["app.kubernetes.io/instance"])
            if server not in paused and self.objects.get(ref) != each:
                self.objects[ref] = each
                self.writes["object"] += 1
                written.add(ref)
        return Applied(frozenset(written))

    async def prune(self, refs: Collection[ObjectRef]) -> bool:
        """Out of the dictionary."""
        for ref in refs:
            self.objects.pop(ref, None)
        return True

    async def delete(self, ref: ObjectRef) -> None:
        """As a person does."""
        if ref in self.resources:
            self.remove(ref)

    async def hold(self, ref: ObjectRef) -> None:
        """Give it the finalizer."""
        self.writes["finalizer"] += 1
        self.resources[ref] = replace(self.resources[ref], held=True)
        self.changed(ref)

    async def release(self, ref: ObjectRef) -> None:
        """Take the finalizer."""
        self.resources[ref] = replace(self.resources[ref], held=False)
        if self.resources[ref].deleting:
            self.remove(ref)

    def programs(self, components: Sequence[Component]) -> Sequence[Program]:
        """A pod of each component that runs."""
        found = []
        for ref, each in self.objects.items():
            if ref.kind not in ("StatefulSet", "Deployment"):
                continue
            meta = each["metadata"]["labels"]
            server = ObjectRef("MailServer", ref.namespace, meta["app.kubernetes.io/instance"])
            for component in components:
                if component.name not in self.down and component.name == meta["app.kubernetes.io/component"]:
                    shard = 0 if component.name == "store" else None
                    for port, mount in component.reports:
                        key = f"{ref.name}:{port}#{self.restarts}"
                        found.append(Program(key, server, component.name, mount, key, shard))
        return found

    def observed_pods(self) -> Sequence[ObservedPod]:
        """One for each replica."""
        found = []
        for ref, each in self.objects.items():
            if ref.kind in ("StatefulSet", "Deployment"):
                meta = each["metadata"]["labels"]
                server = ObjectRef("MailServer", ref.namespace, meta["app.kubernetes.io/instance"])
                component = meta["app.kubernetes.io/component"]
                for n in range(self.replicas(each)):
                    ready = component not in self.down
                    found.append(ObservedPod(server, component, f"{ref.name}-{n}", ready, n, "out of memory"))
        return found

    def replicas(self, workload: Manifest) -> int:
        """As it is written."""
        return int(workload["spec"]["replicas"])

    def files(self, server: ObjectRef, mount: str) -> dict[str, bytes]:
        """What pods would load now."""
        found: dict[str, bytes] = {}
        for ref, each in self.objects.items():
            is_of = ref.namespace == server.namespace
            if is_of and ref.kind == "Secret" and each["type"] == f"mailpods.io/{mount}":
                found |= {k: v for k, v in each["data"].items() if k != "versions.json"}
        return found

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """What it loaded."""
        if program.component not in self.frozen:
            files = self.files(program.server, program.mount)
            self.loaded[program.at] = {name: content_hash(data) for name, data in files.items()}
        return self.loaded.get(program.at)

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        """Always."""
        return True

    async def hurry(self, servers: Collection[ObjectRef]) -> None:
        """They are as quick as they get."""

    async def publish(self, ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        """Into the dictionary."""
        self.writes["status"] += 1
        if ref in self.resources:
            self.resources[ref] = replace(self.resources[ref], status=json.dumps(status).encode())

    async def event(self, ref: ObjectRef, uid: str, type_: str, reason: str, message: str) -> None:
        """Into the list."""
        self.events.append((ref, reason))

    def round_ended(self) -> None:
        """Nothing to do."""
