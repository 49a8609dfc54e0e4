"""Which pods of this machine serve, and why others do not."""

import asyncio
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from mail_operator.components.component import Component
from mail_operator.engine.runtime import ObservedPod, Program
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.asking import loaded_files
from mail_operator.local.pods import Container, Pod, Pods


class Serving:
    """`servers`: name -> MailServer of which something runs."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._answered: set[Hashable] = set()  # runs of programs that did, once
        self.servers: Mapping[str, ObjectRef] = {}

    def containers(self) -> list[Container]:
        """Those that can be asked something."""
        return [c for pod, _ in self._there() for c in pod.containers if c.admin]

    def runs(self) -> frozenset[tuple[str, str]]:
        """Other than before whenever a program started or ended, or cannot start for another reason."""
        programs = {(run_of(c), c.process.trouble) for pod, _ in self._there() for c in pod.containers}
        return frozenset(programs | set(self._pods.troubles.items()))

    def _there(self) -> Iterable[tuple[Pod, ObjectRef | None]]:
        for pod in self._pods.running:
            if not pod.leaving:
                yield pod, self.servers.get(pod.labels["app.kubernetes.io/instance"])

    def programs(self, components: Sequence[Component]) -> list[Program]:
        """The programs that run and report files."""
        reporting = {each.name for each in components if each.reports}
        found = []
        for pod, server in self._there():
            component = pod.labels["app.kubernetes.io/component"]
            if server is None or component not in reporting:
                continue
            shard = _index(pod.labels) if component == "store" else None
            for container in pod.containers:
                if (mount := _reports(container)) and container.admin and container.process.pid:
                    at = container.admin
                    found.append(Program(run_of(container), server, component, mount, at, shard))
        return found

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """What it has loaded. A run that has answered once is ready."""
        if (answer := await asyncio.to_thread(loaded_files, program.at)) is not None:
            self._answered.add(program.key)
        return answer

    def observed(self) -> list[ObservedPod]:
        """All pods that should run."""
        runs = {run_of(c) for pod, _ in self._there() for c in pod.containers}
        self._answered &= runs
        found = []
        for pod, server in self._there():
            if server:
                troubles = [c.process.trouble for c in pod.containers if not self._is_ready(c)]
                found.append(_observed(pod.name, pod.labels, server, not troubles, filter(None, troubles)))
        for name, trouble in self._pods.troubles.items():
            labels = self._pods.labels(name)
            if server := self.servers.get(labels["app.kubernetes.io/instance"]):
                found.append(_observed(name, labels, server, False, [trouble]))
        return found

    def _is_ready(self, container: Container) -> bool:
        if _reports(container) and container.admin:
            return run_of(container) in self._answered
        return container.process.pid is not None


def run_of(container: Container) -> str:
    """Names a run of a program: another after each restart."""
    return f"{container.key}@{container.process.pid}"


def _reports(container: Container) -> str | None:
    return next((m for m in ("directory", "credentials") if m in container.mounts), None)


def _index(labels: Mapping[str, Any]) -> int:
    return int(labels["apps.kubernetes.io/pod-index"])


def _observed(
    name: str, labels: Mapping[str, Any], server: ObjectRef, ready: bool, troubles: Iterable[str]
) -> ObservedPod:
    component = labels["app.kubernetes.io/component"]
    return ObservedPod(server, component, name, ready, _index(labels), "; ".join(troubles))
