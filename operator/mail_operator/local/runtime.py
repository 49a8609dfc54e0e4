"""One machine as the ground of the engine: manifests in folders, processes for pods, a data folder."""

import asyncio
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mail_operator.compiler import numbers
from mail_operator.compiler.plan import Manifest, wire
from mail_operator.compiler.server import VERSIONS
from mail_operator.compiler.snapshot import PasswordHash, SecretName
from mail_operator.components.component import Component
from mail_operator.engine.gathering import recovered
from mail_operator.engine.runtime import (
    Applied,
    Changed,
    FatalError,
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
from mail_operator.kinds import Resource, load
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.observed import ObservedState
from mail_operator.local.pods import WORKLOADS, Pods, replicas
from mail_operator.local.ports import Ports, PortTaken
from mail_operator.local.secrets import mark_of, name_of, needed_by, secret_manifest
from mail_operator.local.serving import Serving
from mail_operator.local.state import DataFolder, require_short_paths
from mail_operator.local.status_file import StatusFile

_TICK_SECONDS = 0.02
_LOOK_SECONDS = 0.02  # between looks at the manifests …
_LOOK_SHARE = 0.2  # … which take no more of the time than this
_GOOD_SECONDS = 3.0  # after a change; ten thousand manifests take a tenth of a second to write
_AUTHORITY = ("", "mailpods-ca")
_SERVED = b'{"account":""}'  # all that is remembered of the status of what was served in a former run


class LocalRuntime:
    """`run()` it on an event loop, and `drain()` it at the end."""

    # A manifest is written by a person or a program that is done with it: it acts at once.
    timings = Timings(
        quiet=0.0, longest_quiet=0.5, first_settle=0.5, acknowledge=0.0, ask=0.02, patience=0.0, calm=3.0
    )
    issues_certificates = False

    def __init__(
        self,
        observed: ObservedState,
        data: DataFolder,
        pods: Pods,
        ports: Ports,
        log: Callable[[str], None],
    ) -> None:
        self.state, self._data, self._pods, self._ports, self._log = observed, data, pods, ports, log
        self._file = StatusFile(data.path / "run" / "status.json")
        self.shown: Callable[[], None] = lambda: None  # called when a person would see something else
        self._served = set(data.state.ages)
        self._resources: dict[ObjectRef, ObservedResource] = {}
        self._held: dict[ObjectRef, Resource] = {}  # whose manifest is written down
        self._secrets: dict[SecretName, ObservedSecret] = {}
        self._marked: dict[SecretName, tuple[Mapping[str, bytes], str]] = {}
        self._wanted: list[Manifest] = []
        self._given: dict[SecretName, dict[str, bytes]] = {}
        self._serving = Serving(pods)
        self._changed: Changed = lambda ref: None
        self._looked = asyncio.Event()
        self._allocated = False  # something that the resources do not hold yet
        self._incomplete = False  # not all that is wanted could be applied
        self._good_at: float | None = None  # when to write down what is in force
        self._said = ""  # the last complaint

    @property
    def statuses(self) -> Mapping[ObjectRef, Status]:
        """What every object says."""
        return self._file.statuses

    # Observing ------------------------------------------------------------------------------------------

    async def run(self, changed: Changed) -> None:
        """Look at the manifests, keep the processes running, write down what there is to see."""
        self._changed = changed
        next_look, running = 0.0, frozenset[tuple[str, str]]()
        while True:
            now = time.monotonic()
            try:
                if now >= next_look:
                    self._look(now)
                    next_look = now + max(_LOOK_SECONDS, (time.monotonic() - now) / _LOOK_SHARE)
                self._pods.tick()
                if (runs := self._serving.runs()) != running:
                    running, self._file.stale = runs, True
                    changed(ObjectRef("Pod", "", ""))
                self._write_down()
                self._said = ""
            except FatalError:
                raise
            except Exception as error:  # a full disk, a program that is not there: it may pass
                if (said := f"{error}" or repr(error)) != self._said:
                    self._said = said
                    self._log(f"this goes on without effect, and is tried again: {said}")
                await asyncio.sleep(1)
            await asyncio.sleep(_TICK_SECONDS)

    def _look(self, now: float) -> None:
        if self._allocated:
            self.state.gather()
        if self.state.refresh() or self._allocated or not self._looked.is_set():
            self._allocated = False
            self._gather()
            self._looked.set()
            if self._good_at is None:
                self._good_at = now + _GOOD_SECONDS
            self._changed(ObjectRef("Manifest", "", ""))
            self.shown()
        if self._good_at is not None and now >= self._good_at:
            self._data.keep_last_good(self.state.last_good())
            self._good_at = None

    def _gather(self) -> None:
        there = self.state.snapshot.objects
        self._resources = {ref: self._resource(ref, resource) for ref, resource in there.items()}
        for ref in there:
            if (held := self._data.state.held.get(str(ref))) and self._held.get(ref) is not there[ref]:
                held["manifest"], self._held[ref] = self._manifest_of(ref), there[ref]
        for ref in self.state.ended:
            held = self._data.state.held[str(ref)]
            status = json.dumps(held.get("status", {})).encode()
            made_of = self._made_of(ref, resource := load(held["manifest"]))
            self._resources[ref] = ObservedResource(made_of, resource, (), True, True, status)
        self._file.keep(self._resources.keys())
        self._mark_secrets()

    def _resource(self, ref: ObjectRef, resource: Resource) -> ObservedResource:
        known = self._resources.get(ref)
        if known and known.resource is resource and not known.deleting:
            return known
        status = self._file.text(ref)
        if status == b"{}" and str(ref) in self._served:
            status = _SERVED
        held = str(ref) in self._data.state.held
        return ObservedResource(self._made_of(ref, resource), resource, (), False, held, status)

    def _made_of(self, ref: ObjectRef, resource: Resource) -> tuple[str, int, tuple[tuple[str, str], ...]]:
        annotations = tuple(sorted(resource.metadata.annotations.items()))
        return str(self._data.state.age(str(ref))), 1, annotations

    def _mark_secrets(self) -> None:
        """A version for each Secret, that another run comes to as well: keyed, for it may be a password's."""
        for name, values in self.state.secrets.items():
            self._mark(name, values)
        for name in self._secrets.keys() - self.state.secrets.keys():
            del self._secrets[name], self._marked[name]

    def _mark(self, name: SecretName, values: Mapping[str, bytes]) -> None:
        known = self._marked.get(name)
        if known is None or known[0] != values:
            known = (values, mark_of(values, bytes.fromhex(self._data.state.hash_key)))
            self._marked[name] = known
        made = "/".join(name) in self._data.state.secrets and not self.state.is_given(name)
        self._secrets[name] = ObservedSecret(known[1], made)

    async def synced(self) -> None:
        """Once the manifests were looked at."""
        await self._looked.wait()

    def observe(self) -> Observation:
        """What is there."""
        snapshot = self.state.snapshot
        return Observation(self._resources, self._secrets, snapshot.namespaces, {}, snapshot.age)

    def observed(self, ref: ObjectRef) -> ObservedResource | None:
        """One resource."""
        return self._resources.get(ref)

    def secret(self, name: SecretName) -> ObservedSecret | None:
        """One Secret."""
        return self._secrets.get(name)

    def care_for(self, names: Collection[SecretName]) -> None:
        """All are looked at."""

    async def remembered_hashes(self, servers: Mapping[ObjectRef, str]) -> Mapping[SecretName, PasswordHash]:
        """Those of the data folder."""
        known = self._data.state.hashes.items()
        return {tuple(name.split("/", 1)): PasswordHash(h, mark) for name, (mark, h) in known}  # type: ignore[misc]

    # Secrets --------------------------------------------------------------------------------------------

    async def read_secret(self, name: SecretName) -> SecretContent | None:
        """Given, or made."""
        if name == _AUTHORITY:
            values = self._data.state.secret("/".join(name))
            return SecretContent("", values, True) if values else None
        seen, values = self._secrets.get(name), self.state.secrets.get(name)
        return SecretContent(seen.mark, values, seen.made) if seen and values is not None else None

    async def create_secret(
        self, name: SecretName, type_: str, owner_kind: str, values: Mapping[str, bytes]
    ) -> None:
        """In the data folder."""
        if name not in self._secrets:
            self._keep(name, values)

    async def change_secret(self, name: SecretName, mark: str, changes: Mapping[str, bytes | None]) -> None:
        """In the data folder."""
        seen = self._secrets.get(name)
        if seen is None or not seen.made or seen.mark != mark:
            raise Unavailable("it changed meanwhile")
        merged = {**self.state.secrets[name], **changes}
        self._keep(name, {key: value for key, value in merged.items() if value is not None})

    def _keep(self, name: SecretName, values: Mapping[str, bytes]) -> None:
        self._data.state.keep_secret("/".join(name), dict(values))
        if name != _AUTHORITY:
            self.state.secrets[name] = dict(values)
            self._mark(name, values)
            self._changed(ObjectRef("Secret", *name))

    def authority(self) -> SecretName:
        """In the data folder, of no namespace."""
        return _AUTHORITY

    # Carrying out ---------------------------------------------------------------------------------------

    async def allocate(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        """Beside the manifest, which is its user's."""
        self._data.state.allocations.setdefault(str(ref), {}).update(patch)
        self._allocated = True
        return True

    async def apply(
        self, objects: Sequence[Manifest], owners: Mapping[ObjectRef, str], paused: Collection[ObjectRef]
    ) -> Applied:
        """Make the processes and their files follow."""
        kept = [each for each in self._wanted if _server_of(each) in paused]
        wanted = [*(each for each in objects if _server_of(each) not in paused), *kept]
        # Of the same name may be a tenant's Secret: the pods see those of their own namespace alone.
        here = {server.namespace for server in map(_server_of, wanted)}
        # What vanished stays in the pods that have it, as on a cluster.
        given = {name: values for name, values in self._given.items() if name[0] in here}
        given |= {name: values for name, values in self.state.secrets.items() if name[0] in here}
        before = {id(each) for each in self._wanted}
        written = [each for each in wanted if id(each) not in before]
        complete = not self._incomplete and len(wanted) == len(self._wanted)
        if complete and not written and given == self._given:
            return Applied()
        pods = [f"{o['metadata']['name']}-0" for o in wanted if o["kind"] in WORKLOADS]
        require_short_paths(self._data.path, pods)
        for each in written:
            name = name_of(each)
            if each.get("type") == numbers.TYPE and self.state.secrets.get(name) != each["data"]:
                self._keep(name, each["data"])  # compile() reads it again, in another run, too
        self._data.save()  # before anything is put to use
        there = given.keys() | {name_of(each) for each in wanted if each["kind"] == "Secret"}
        startable = [each for each in wanted if there.issuperset(needed_by(each))]
        try:
            self._pods.apply([*map(wire, startable), *(secret_manifest(*each) for each in given.items())])
        except PortTaken as error:
            if self._pods.running:  # what is there goes on
                raise Unavailable(str(error)) from error
            raise
        self._wanted, self._given, self._incomplete = wanted, given, len(startable) < len(wanted)
        self._serving.servers = {server.name: server for server in map(_server_of, wanted)}
        self._remember_hashes(written)
        return Applied(frozenset(_ref_of(each) for each in written))

    def _remember_hashes(self, objects: Sequence[Manifest]) -> None:
        for each in objects:
            if each["kind"] == "Secret" and VERSIONS in each["data"]:
                for name, found in recovered(each["data"][VERSIONS]).items():
                    self._data.state.hashes["/".join(name)] = (found.version, found.hash)
        there = {"/".join(name) for name in self.state.secrets}
        for gone in self._data.state.hashes.keys() - there:
            del self._data.state.hashes[gone]

    async def prune(self, refs: Collection[ObjectRef]) -> bool:
        """What is not applied is not there."""
        return True

    async def delete(self, ref: ObjectRef) -> None:
        """The manifests are their user's: what is left without a domain says so."""

    async def hold(self, ref: ObjectRef) -> None:
        """Remember it, for once its manifest is gone, nobody can be asked."""
        status = json.loads(self._file.text(ref))
        self._data.state.held[str(ref)] = {"manifest": self._manifest_of(ref), "status": status}
        if ref in self._resources:
            self._resources[ref] = replace(self._resources[ref], held=True)

    def _manifest_of(self, ref: ObjectRef) -> dict[str, Any]:
        source = self.state.source(ref)
        meta = {"namespace": ref.namespace, **source["metadata"]}
        found: dict[str, Any] = json.loads(json.dumps({**source, "metadata": meta}, default=str))
        return found

    async def release(self, ref: ObjectRef) -> None:
        """Forget it."""
        self._data.state.held.pop(str(ref), None)
        self._held.pop(ref, None)
        if ref in self._resources:
            self._resources[ref] = replace(self._resources[ref], held=False)
        self.state.gather()
        self._gather()
        self._changed(ref)

    # Pods -----------------------------------------------------------------------------------------------

    def programs(self, components: Sequence[Component]) -> Sequence[Program]:
        """The processes that report files."""
        return self._serving.programs(components)

    def observed_pods(self) -> Sequence[ObservedPod]:
        """Those that should run."""
        return self._serving.observed()

    def replicas(self, workload: Manifest) -> int:
        """One of a Deployment's."""
        return replicas(workload)

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """At its admin port."""
        return await self._serving.ask(program)

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        """Nothing is between."""
        return True

    async def hurry(self, servers: Collection[ObjectRef]) -> None:
        """They look by themselves."""

    # Telling --------------------------------------------------------------------------------------------

    async def publish(self, ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        """In the table, and in run/status.json."""
        text = self._file.put(ref, status)
        if held := self._data.state.held.get(str(ref)):
            held["status"] = status
        if ref in self._resources:
            self._resources[ref] = replace(self._resources[ref], status=text)

    async def event(self, ref: ObjectRef, uid: str, type_: str, reason: str, message: str) -> None:
        """The table says it."""

    def round_ended(self) -> None:
        """Keep the state, show what there is to see."""
        self._data.save()
        self._write_down()

    def _write_down(self) -> None:
        if self._file.write(self._serving.containers(), self._ports):
            self.shown()

    async def drain(self) -> None:
        """End the pods, and write down what is in force; what cannot be written then is said."""
        self._pods.stop()
        while self._pods.running:
            self._pods.tick()
            await asyncio.sleep(_TICK_SECONDS)
        try:
            if self._good_at is not None:
                self._data.keep_last_good(self.state.last_good())
            self._data.save()
            self._file.remove()
        except OSError as error:
            self._log(f"{self._data.path}: {error.strerror}: the last changes are not written down")


def _server_of(manifest: Manifest) -> ObjectRef:
    meta = manifest["metadata"]
    return ObjectRef("MailServer", meta["namespace"], meta["labels"]["app.kubernetes.io/instance"])


def _ref_of(manifest: Manifest) -> ObjectRef:
    return ObjectRef(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])
