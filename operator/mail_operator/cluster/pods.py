"""What the mail pods have loaded, asked at their admin ports, and the touch that has the kubelet hurry."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import aiohttp

from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import path
from mail_operator.cluster.reflector import Key
from mail_operator.compiler.plan import Dependencies, Plan
from mail_operator.components.component import Component
from mail_operator.kinds.meta import GROUP, ObjectRef
from mailpods.directory.shards import content_hash

TOUCHED = f"{GROUP}/directory"  # annotation of pods; a change of it has the kubelet look at their volumes
ASK_SECONDS = 0.1  # between questions to pods that are behind
_ANSWER_SECONDS = 2.0
_MOST_SECONDS = 5.0  # between attempts to reach pods through their Service


class Expected:
    """The files of a Plan by server and mount, each with its hash, and which port reports which mount."""

    def __init__(self, plan: Plan) -> None:
        # Component -> (admin port, mount) of each of its containers. Others are asked nothing: a portal has
        # no files, and what a later version runs is not known.
        self.reports = {each.name: each.reports for each in plan.components if each.reports}
        self.vital: Mapping[str, Component] = {each.name: each for each in plan.components if each.vital}
        self._hashes = {
            (server, mount): {name: content_hash(data) for name, data in files.items()}
            for mount, mounted in (("directory", plan.directory), ("credentials", plan.credentials))
            for server, files in mounted.items()
        }

    def of(self, server: ObjectRef, mount: str) -> Mapping[str, str]:
        """File name -> hash."""
        return self._hashes.get((server, mount), {})

    @property
    def servers(self) -> set[ObjectRef]:
        """Those that have files."""
        return {server for server, _ in self._hashes}


@dataclass(frozen=True)
class Missing:
    """What the pods of a server lack. `unserved`: why no connection reaches it at all, "" if one does."""

    files: frozenset[str]  # that some pod has not loaded
    shards: frozenset[int]  # whose pod is ready
    unserved: str = ""

    def lacks(self, dependencies: Dependencies) -> bool:
        """Whether an object does not work yet."""
        return bool(self.unserved) or not (
            self.files.isdisjoint(dependencies.files) and dependencies.shards <= self.shards
        )


class MailPods:
    """One for each operator."""

    def __init__(
        self, client: ApiClient, pods: Callable[[], Mapping[Key, CachedPod]], log: Callable[[str], None]
    ) -> None:
        self._client, self._pods, self._log = client, pods, log
        self._session: aiohttp.ClientSession | None = None
        self._loaded: dict[tuple[str, int], Mapping[str, str]] = {}  # (uid, port) -> file -> hash
        self._plans = 0  # how many there were: answers to questions of before the last one do not count
        self._reached: set[ObjectRef] = set()  # servers whose Services lead to pods
        self._unreached: dict[ObjectRef, tuple[float, float]] = {}  # the others: when to try, after what wait

    async def open(self) -> None:
        """Before anything else."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS))

    async def close(self) -> None:
        """At the end."""
        if self._session:
            await self._session.close()

    def _serving(self, expected: Expected, server: ObjectRef) -> list[tuple[Key, CachedPod]]:
        """The pods with files that users reach: what is not ready gets nobody, and starts with the newest."""
        return [
            (key, pod)
            for key, pod in self._pods().items()
            if key[0] == server.namespace
            and pod.server == server.name
            and pod.component in expected.reports
            and pod.ready
            and not pod.deleting
        ]

    def forget_stale(self, expected: Expected) -> None:
        """To be called with each new plan: what was loaded of a file that changes now is no answer any more.

        Not even when the file becomes again what it was: a pod may have seen what was between.
        """
        self._plans += 1
        for key, pod in self._pods().items():
            server = ObjectRef("MailServer", key[0], pod.server)
            for port, mount in expected.reports.get(pod.component, ()):
                wanted, loaded = expected.of(server, mount), self._loaded.get((pod.uid, port), {})
                if any(wanted.get(file) != digest for file, digest in loaded.items()):
                    self._loaded[pod.uid, port] = {f: d for f, d in loaded.items() if wanted.get(f) == d}

    def missing(self, expected: Expected, server: ObjectRef) -> Missing:
        """What hinders the objects of a server."""
        serving = self._serving(expected, server)
        files: set[str] = set()
        for _, pod in serving:
            for port, mount in expected.reports[pod.component]:
                loaded = self._loaded.get((pod.uid, port), {})
                files |= {f for f, digest in expected.of(server, mount).items() if loaded.get(f) != digest}
        shards = frozenset(int(p.index) for _, p in serving if p.component == "store" and p.index.isdecimal())
        unserved = ""
        if absent := expected.vital.keys() - {pod.component for _, pod in serving}:
            unserved = f"no {' and no '.join(sorted(absent))} pod is ready"
        elif server not in self._reached:
            unserved = "the Services do not lead to the pods yet"
        return Missing(frozenset(files), shards, unserved)

    async def ask(self, expected: Expected) -> bool:
        """Ask the pods that are behind. Returns whether something got further."""
        arrived = await asyncio.gather(*(self._reach(expected, server) for server in expected.servers))
        behind = [
            (pod, port)
            for server in expected.servers
            for _, pod in self._serving(expected, server)
            for port, mount in expected.reports[pod.component]
            if not expected.of(server, mount).items() <= self._loaded.get((pod.uid, port), {}).items()
        ]
        plans = self._plans
        answers = await asyncio.gather(*(self._ask(pod, port) for pod, port in behind))
        if plans != self._plans:
            return any(arrived)
        before = dict(self._loaded)
        for (pod, port), answer in zip(behind, answers, strict=True):
            if answer is not None:
                self._loaded[pod.uid, port] = answer
        there = {pod.uid for pod in self._pods().values()}
        self._loaded = {key: loaded for key, loaded in self._loaded.items() if key[0] in there}
        return before != self._loaded or any(arrived)

    async def _reach(self, expected: Expected, server: ObjectRef) -> bool:
        """Whether the Services lead to pods now and did not before: nodes learn of a new one with delay."""
        serving = self._serving(expected, server)
        if not {pod.component for _, pod in serving} >= expected.vital.keys():
            self._reached.discard(server)
            return False
        at, waited = self._unreached.get(server, (0.0, ASK_SECONDS))
        if server in self._reached or time.monotonic() < at:
            return False
        services = {
            f"{server.name}-{each.name}": min(port.public for port in each.ports if port.public)
            for each in expected.vital.values()
        }
        found = await asyncio.gather(
            *(self._connects(ObjectRef("Service", server.namespace, n), p) for n, p in services.items())
        )
        if all(found):
            self._reached.add(server)
            self._unreached.pop(server, None)
        else:
            waited = min(2 * waited, _MOST_SECONDS)
            self._unreached[server] = (time.monotonic() + waited, waited)
        return all(found)

    async def _connects(self, service: ObjectRef, port: int) -> bool:
        try:
            address = (await self._client.get(path(service)))["spec"]["clusterIP"]
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(address, port)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return False
        writer.close()
        return True

    async def _ask(self, pod: CachedPod, port: int) -> Mapping[str, str] | None:
        assert self._session is not None
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        try:
            async with self._session.get(f"http://{host}:{port}/directory") as response:
                hashes: Mapping[str, str] = (await response.json())["hashes"]
                return hashes
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None  # asked again

    async def touch(self, servers: Iterable[ObjectRef], version: str) -> None:
        """Have the kubelets look at the volumes at once: by themselves they take over a minute."""
        body = {"metadata": {"annotations": {TOUCHED: version}}}
        keys = [
            key
            for server in servers
            for key, pod in self._pods().items()
            if key[0] == server.namespace and pod.server == server.name and not pod.deleting
        ]
        await asyncio.gather(*(self._touch(key, body) for key in keys))

    async def _touch(self, key: Key, body: Mapping[str, object]) -> None:
        try:
            await self._client.merge(path(ObjectRef("Pod", *key)), body)
        except ApiError as error:
            if error.code != 404:
                self._log(f"Pod {'/'.join(key)}: not touched: {error}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self._log(f"Pod {'/'.join(key)}: not touched: {error!r}")
