"""The harnesses on which the contract of the engine is tested, and what a person does there."""

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import kopf
import yaml
from mail_operator.cli.main import MAIL_USER
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.runtime import ClusterRuntime
from mail_operator.components import COMPONENTS
from mail_operator.components.component import Component
from mail_operator.engine.engine import Engine
from mail_operator.engine.runtime import Timings
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.ports import Ports
from mail_operator.local.runner import Runner
from mail_operator.local.state import DataFolder

from mailpods.directory.shards import decode, decode_credentials, decode_store
from tests.contract.memory import MemoryRuntime
from tests.support.apiserver import ApiServer
from tests.support.installation import HOST, wait
from tests.support.toy import TOY

T = TypeVar("T")
DECLARED = (*COMPONENTS, TOY)  # what a component needs beside its declaration shows on each harness
SERVER = ObjectRef("MailServer", "t", "main")
Document = Mapping[str, Any]


def _frozen(component: str) -> frozenset[str]:
    return frozenset([component] if component else [each.name for each in DECLARED])


def ref_of(document: Document) -> ObjectRef:
    """The name of a document's object."""
    return ObjectRef(document["kind"], document["metadata"]["namespace"], document["metadata"]["name"])


class RuntimeHarness(ABC):
    """A runtime with an engine that runs on it, in a thread."""

    needs_removal_again = False  # whether what is deleted is changed by being put back

    @abstractmethod
    def start(self) -> None:
        """Run the engine."""

    @abstractmethod
    def stop(self) -> None:
        """End it; what is to outlive it stays."""

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self.stop()

    @abstractmethod
    def apply(self, *documents: Any) -> None:
        """As `kubectl apply`."""

    @abstractmethod
    def remove(self, *refs: ObjectRef) -> None:
        """As `kubectl delete --wait=false`, all at once."""

    @abstractmethod
    def status(self, ref: ObjectRef) -> dict[str, Any]:
        """What it says; {} if it is not there."""

    @abstractmethod
    def files(self, mount: str) -> Mapping[str, bytes]:
        """The files of the server's pods."""

    @abstractmethod
    def secret(self, name: str) -> Mapping[str, bytes]:
        """The content of a Secret; {} if there is none."""

    @abstractmethod
    def spec(self, ref: ObjectRef) -> Mapping[str, Any]:
        """The spec, with what was allocated."""

    @abstractmethod
    def writes(self) -> object:
        """Another value after each write."""

    @abstractmethod
    def remove_made(self, name: str) -> None:
        """Take away a Secret that Mailpods made, before anybody notices."""

    @abstractmethod
    def engine(self) -> Engine:
        """The one that runs."""

    @abstractmethod
    def is_there(self, ref: ObjectRef) -> bool:
        """Whether anything of a resource is."""

    @abstractmethod
    def frozen(self, component: str = "") -> Any:
        """A context in which pods, or those of a component, do not get on."""

    @abstractmethod
    def down(self, component: str) -> Any:
        """A context in which no pod of a component runs; those that come after it are others."""

    def events(self, ref: ObjectRef) -> list[str] | None:
        """The reasons of an object's Events; None where there are no Events."""
        return None

    def condition(self, ref: ObjectRef, type_: str) -> dict[str, Any]:
        """One of any type."""
        conditions = self.status(ref).get("conditions", ())
        return next((c for c in conditions if c["type"] == type_), {"status": "", "reason": ""})

    def look_again(self) -> None:
        """Have the engine go through two rounds."""
        engine = self.engine()
        for _ in range(2):
            beat = engine.beat
            engine.look()
            wait(lambda beat=beat: engine.beat != beat)  # type: ignore[misc]

    def settle(self) -> None:
        """Wait until nothing is written any more."""
        while True:
            before = self.writes()
            self.look_again()
            if self.writes() == before:
                return

    def wait_until_gone(self, *refs: ObjectRef) -> None:
        """Wait until nothing of them is left."""
        for ref in refs:
            wait(lambda ref=ref: not self.is_there(ref), 30, f"{ref} is still there")  # type: ignore[misc]

    def ready(self, ref: ObjectRef) -> dict[str, Any]:
        """The condition."""
        return self.condition(ref, "Ready")

    def wait_for(self, ref: ObjectRef, what: str = "Serving", seconds: float = 20) -> dict[str, Any]:
        """Wait for the reason of Ready."""
        try:
            return wait(lambda: ready if (ready := self.ready(ref))["reason"] == what else None, seconds)
        except AssertionError:
            raise AssertionError(f"{ref} is not {what}: {self.status(ref)}") from None

    @property
    def accounts(self) -> set[str]:
        """Those that the pods know, as 7/info."""
        files = [decode(d) for n, d in self.files("directory").items() if n != "server.json"]
        return {str(id) for bucket in files for id in bucket.accounts}

    @property
    def hashes(self) -> dict[str, str | None]:
        """The hash of each account's password."""
        files = [decode_credentials(d) for n, d in self.files("credentials").items() if n != "store.json"]
        return {str(id): each.hash for file in files for id, each in file.accounts.items()}

    @property
    def wiped(self) -> list[int]:
        """The numbers whose mail the stores wipe."""
        return list(decode_store(self.files("credentials")["store.json"]).wiped)


class MemoryHarness(RuntimeHarness):
    """In this process; the runtime is at hand for what only it can show."""

    def __init__(self) -> None:
        self.runtime = MemoryRuntime()
        self.log: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = Engine(self.runtime, self.log.append, DECLARED)
        self._task = self._loop.create_task(self._engine.run())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        assert self._task
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def stop(self) -> None:
        if self._thread and self._task:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(10)
            self._thread = None

    def engine(self) -> Engine:
        return self._engine

    def is_there(self, ref: ObjectRef) -> bool:
        return ref in self.runtime.resources

    def events(self, ref: ObjectRef) -> list[str] | None:
        return [reason for of, reason in self.runtime.events if of == ref]

    def remove_made(self, name: str) -> None:
        self.do(lambda: self.runtime.secrets.pop(("t", name)))

    def do(self, what: Callable[[], T]) -> T:
        """In the loop's thread, at once where there is none."""
        if self._thread is None:
            return what()

        async def call() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)

    def apply(self, *documents: Any) -> None:
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        self.do(lambda: list(map(self.runtime.put, flat)))

    def remove(self, *refs: ObjectRef) -> None:
        self.do(lambda: list(map(self.runtime.remove, refs)))

    def status(self, ref: ObjectRef) -> dict[str, Any]:
        held = self.runtime.resources.get(ref)
        return dict(json.loads(held.status)) if held else {}

    def files(self, mount: str) -> Mapping[str, bytes]:
        return self.do(lambda: self.runtime.files(SERVER, mount))

    def secret(self, name: str) -> Mapping[str, bytes]:
        held = self.runtime.secrets.get(("t", name))
        return held.values if held else {}

    def spec(self, ref: ObjectRef) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.runtime.documents[ref]["spec"]
        return spec

    def writes(self) -> object:
        return dict(self.runtime.writes)

    @contextmanager
    def frozen(self, component: str = "") -> Iterator[None]:
        self.runtime.frozen = _frozen(component)
        try:
            yield
        finally:
            self.runtime.frozen = frozenset()

    @contextmanager
    def down(self, component: str) -> Iterator[None]:
        def change(down: frozenset[str]) -> None:
            self.runtime.down = down
            self.runtime.restarts += 1
            self.runtime.changed(ObjectRef("Pod", "t", component))

        self.do(lambda: change(frozenset([component])))
        try:
            yield
        finally:
            self.do(lambda: change(frozenset()))


class LocalHarness(RuntimeHarness):
    """`mailpods up` in a thread, with real programs."""

    needs_removal_again = True

    def __init__(self) -> None:
        self.log: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="mp-"))
        self._folder.chmod(0o755)
        self._manifests = self._folder / "m"
        self._manifests.mkdir()
        self._runner: Runner | None = None
        self._thread: threading.Thread | None = None
        self._data: DataFolder | None = None

    def start(self) -> None:
        self._data = DataFolder(self._folder / "d")
        user = MAIL_USER if os.geteuid() == 0 else None
        runner = self._runner = Runner([self._manifests], self._data, Ports(HOST, None), user)
        runner.engine = Engine(runner.runtime, self.log.append, DECLARED)
        self._thread = threading.Thread(target=lambda: asyncio.run(runner.run()), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread and self._runner and self._data:
            self._runner.stop()
            self._thread.join(60)
            self._data.close()
            self._thread = None

    def engine(self) -> Engine:
        assert self._runner
        return self._runner.engine

    def is_there(self, ref: ObjectRef) -> bool:
        assert self._data
        return bool(self.status(ref)) or str(ref) in self._data.state.held

    def remove_made(self, name: str) -> None:
        """A manifest goes before what was made."""

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder)

    @staticmethod
    def _name(ref: ObjectRef) -> str:
        return f"{ref.kind}-{ref.namespace}-{ref.name}.yaml"

    def apply(self, *documents: Any) -> None:
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        for each in flat:
            new = self._folder / "new"
            new.write_text(yaml.safe_dump(each))
            new.rename(self._manifests / self._name(ref_of(each)))

    def remove(self, *refs: ObjectRef) -> None:
        for ref in refs:
            (self._manifests / self._name(ref)).unlink()

    def status(self, ref: ObjectRef) -> dict[str, Any]:
        assert self._runner
        return dict(self._runner.statuses.get(ref, {}))

    def files(self, mount: str) -> Mapping[str, bytes]:
        folder = self._folder / "d" / "run" / "pods" / "main-smtp-0" / mount
        return {file.name: file.read_bytes() for file in folder.glob("[!.]*")}

    def secret(self, name: str) -> Mapping[str, bytes]:
        assert self._runner
        return self._runner.observed.secrets.get(("t", name), {})

    def spec(self, ref: ObjectRef) -> Mapping[str, Any]:
        assert self._data
        return self._data.state.allocations.get(str(ref), {})

    def writes(self) -> object:
        folder = self._folder / "d"
        files = [*folder.glob("*.json"), folder / "run" / "status.json", *folder.glob("run/pods/*/*/*.json")]
        return {file: file.stat().st_mtime_ns for file in files if file.exists()}

    @contextmanager
    def frozen(self, component: str = "") -> Iterator[None]:
        assert self._runner
        pods = [pod for pod in self._runner.pods.running if component in pod.name]
        pids = [c.process.pid for pod in pods for c in pod.containers if c.process.pid]
        for pid in pids:
            os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.killpg(pid, signal.SIGCONT)

    @contextmanager
    def down(self, component: str) -> Iterator[None]:
        assert self._runner
        processes = [
            c.process for p in self._runner.pods.running if component in p.name for c in p.containers
        ]
        commands = [process._command for process in processes]
        for process in processes:
            process._command = ["sh", "-c", "echo first words; echo out of memory; exit 1"]
            if process.pid:
                os.killpg(process.pid, signal.SIGKILL)
        try:
            yield
        finally:
            for process, command in zip(processes, commands, strict=True):
                process._command, process._next_start = command, 0.0


class ReachedCluster(ClusterRuntime):
    """Of which every Service leads to its pods."""

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        return True


class ClusterHarness(RuntimeHarness):
    """The operator, on an API server in memory."""

    def __init__(self) -> None:
        self.api = ApiServer(DECLARED)
        self.log: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.do(self.api.start)
        self._task: asyncio.Task[None] | None = None

    def do(self, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """In the loop's thread."""
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(30)

    def call(self, what: Callable[..., T], *arguments: Any) -> T:
        """The same, of a plain function."""

        async def called() -> T:
            return what(*arguments)

        return self.do(called)

    def start(self) -> None:
        async def start() -> None:
            info = kopf.ConnectionInfo(server=self.api.url, default_namespace="operator")
            self.client = ApiClient(lambda: info, "mailpods")
            await self.client.open()
            self.runtime = ReachedCluster(self.client, "mailpods:test", self.log.append)
            self.runtime.timings = replace(Timings(), quiet=0.02, patience=0.5, retry=0.5, ask=0.02)
            self._engine = Engine(self.runtime, self.log.append, DECLARED)
            self._task = asyncio.create_task(self._engine.run())

        self.do(start)

    def stop(self) -> None:
        async def stop() -> None:
            if self._task:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
                await self.runtime.close()
                await self.client.close()

        self.do(stop)
        self._task = None

    def close(self) -> None:
        """End the API server, too."""
        self.stop()
        self.do(self.api.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def engine(self) -> Engine:
        return self._engine

    def apply(self, *documents: Any) -> None:
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        for each in flat:
            self.call(self._put, each)

    def _put(self, document: Document) -> None:
        ref = ref_of(document)
        there = self.api.objects.get((*ref,), {})
        meta = {**there.get("metadata", {}), "annotations": {}, **document["metadata"]}
        item = {**there, **json.loads(json.dumps(document)), "metadata": meta}
        if ref.kind == "Secret":
            values = item.pop("stringData")
            item["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}
        else:
            known = there.get("spec", {})
            given = {k: v for k, v in known.items() if k in ("number", "loginName", "shard")}
            item["spec"] = {**given, **item["spec"]}
        self.api.put(item)

    def remove(self, *refs: ObjectRef) -> None:
        for ref in refs:
            self.call(self.api.delete, *ref)

    def remove_made(self, name: str) -> None:
        self.call(self.api.objects.pop, ("Secret", "t", name))

    def status(self, ref: ObjectRef) -> dict[str, Any]:
        return dict(self.api.objects.get((*ref,), {}).get("status", {}))

    def is_there(self, ref: ObjectRef) -> bool:
        return (*ref,) in self.api.objects

    def events(self, ref: ObjectRef) -> list[str] | None:
        events = [o for (kind, _, _), o in self.api.objects.items() if kind == "Event"]
        return [e["reason"] for e in events if e["involvedObject"]["name"] == ref.name]

    def files(self, mount: str) -> Mapping[str, bytes]:
        return self.call(self.api.files, "t", mount)

    def secret(self, name: str) -> Mapping[str, bytes]:
        data = self.api.objects.get(("Secret", "t", name), {}).get("data", {})
        return {key: base64.b64decode(value) for key, value in data.items()}

    def spec(self, ref: ObjectRef) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.api.objects[(*ref,)]["spec"]
        return spec

    def writes(self) -> object:
        return dict(self.api.writes)

    @contextmanager
    def frozen(self, component: str = "") -> Iterator[None]:
        self.api.frozen = _frozen(component)
        try:
            yield
        finally:
            self.api.frozen = frozenset()

    @contextmanager
    def down(self, component: str) -> Iterator[None]:
        pods = [(k, o) for k, o in self.api.objects.items() if k[0] == "Pod" and component in k[2]]
        for (_, _, name), pod in pods:
            ready = {**pod["status"]["conditions"][0], "status": "False"}
            waiting = {"name": name, "state": {"waiting": {"reason": "out of memory"}}}
            status = {**pod["status"], "conditions": [ready], "containerStatuses": [waiting]}
            self.call(self.api.put, {**pod, "status": status})
        try:
            yield
        finally:
            for _, pod in pods:
                meta = {k: v for k, v in pod["metadata"].items() if k != "uid"}
                self.call(self.api.objects.pop, ("Pod", "t", meta["name"]))
                self.call(self.api.put, {**pod, "metadata": meta})
