"""The mail pods: which programs serve, what they have loaded, and the touch that has the kubelet hurry."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import aiohttp

from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import path
from mail_operator.cluster.reflector import Key
from mail_operator.components.component import Component, Port
from mail_operator.engine.runtime import ObservedPod, Program, Unavailable
from mail_operator.kinds.meta import GROUP, ObjectRef

TOUCHED = f"{GROUP}/directory"  # annotation of pods; a change of it has the kubelet look at their volumes
_ANSWER_SECONDS = 2.0


class MailPods:
    """One for each operator."""

    def __init__(
        self, client: ApiClient, pods: Callable[[], Mapping[Key, CachedPod]], log: Callable[[str], None]
    ) -> None:
        self._client, self._pods, self._log = client, pods, log
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """At the end."""
        if self._session:
            await self._session.close()

    def programs(self, components: Sequence[Component]) -> Iterator[Program]:
        """Those that users reach: what is not ready gets nobody, and starts with the newest files.

        Others than these components are asked nothing: what a later version runs is not known.
        """
        reports = {each.name: each.reports for each in components}
        for (namespace, _), pod in self._pods().items():
            if not pod.ready or pod.deleting:
                continue
            server = ObjectRef("MailServer", namespace, pod.server)
            shard = int(pod.index) if pod.component == "store" and pod.index.isdecimal() else None
            for port, mount in reports.get(pod.component, ()):
                host = f"[{pod.address}]" if ":" in pod.address else pod.address
                at = f"http://{host}:{port}/directory"
                yield Program((pod.uid, port), server, pod.component, mount, at, shard)

    def observed(self) -> list[ObservedPod]:
        """All of them, but those that are being deleted."""
        found = []
        for (namespace, name), pod in self._pods().items():
            if not pod.deleting:
                server = ObjectRef("MailServer", namespace, pod.server)
                index = int(pod.index) if pod.index.isdecimal() else None
                found.append(ObservedPod(server, pod.component, name, pod.ready, index, pod.trouble))
        return found

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """The hashes of the files that it has loaded; None where it does not say."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS))
        try:
            async with self._session.get(program.at) as response:
                hashes: Mapping[str, str] = (await response.json())["hashes"]
                return hashes
        except Exception:  # not there, or it answers nonsense: whatever it is, it has loaded nothing
            return None

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        """Whether the Services of these components take connections: nodes learn of a new one late."""
        found = await asyncio.gather(
            *(
                self._connects(
                    ObjectRef("Service", server.namespace, f"{server.name}-{each.name}"),
                    min((port for port in each.ports if port.public), key=lambda port: port.public or 0),
                )
                for each in components
            )
        )
        return all(found)

    async def _connects(self, service: ObjectRef, port: Port) -> bool:
        try:
            spec = (await self._client.get(path(service)))["spec"]
            if port.twin and port.twin.name in (each["targetPort"] for each in spec["ports"]):
                return True  # proxies alone are admitted there: what leads to them is not ours to see
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(spec["clusterIP"], port.public)
        except (Unavailable, OSError, TimeoutError, KeyError):
            return False
        writer.close()
        return True

    async def touch(self, servers: Collection[ObjectRef], version: str) -> None:
        """Have the kubelets look at the volumes at once: by themselves they take over a minute."""
        body = {"metadata": {"annotations": {TOUCHED: version}}}
        keys = [
            key
            for key, pod in self._pods().items()
            if ObjectRef("MailServer", key[0], pod.server) in servers and not pod.deleting
        ]
        await asyncio.gather(*(self._touch(key, body) for key in keys))

    async def _touch(self, key: Key, body: Mapping[str, object]) -> None:
        try:
            await self._client.merge(path(ObjectRef("Pod", *key)), body)
        except Unavailable as error:
            if not (isinstance(error, ApiError) and error.code == 404):
                self._log(f"Pod {'/'.join(key)}: not touched: {error}")
