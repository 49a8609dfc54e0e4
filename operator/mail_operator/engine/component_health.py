"""Which components serve now: how many pods each has of those it should have, and which shards are down."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mail_operator.compiler.plan import Plan
from mail_operator.compiler.status import COMPONENTS_READY, Condition, condition
from mail_operator.engine import metrics
from mail_operator.engine.runtime import ObservedPod, Runtime, Status
from mail_operator.kinds.meta import ObjectRef

_SHARDED = "store"
_LABEL = "app.kubernetes.io/"


@dataclass(frozen=True)
class ComponentHealth:
    """A component of a server. `troubles`: "pod: why" of those that are not ready, where that is known."""

    name: str
    wanted: int
    ready: int
    shards_down: tuple[int, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing is missing."""
        return self.ready >= self.wanted and not self.shards_down

    @property
    def status(self) -> dict[str, Any]:
        """As it stands in status.components."""
        shards = {"shardsDown": list(self.shards_down)} if self.shards_down else {}
        return {"name": self.name, "wanted": self.wanted, "ready": self.ready, **shards}

    def __str__(self) -> str:
        shards = ", ".join(f"shard {n} is down" for n in self.shards_down)
        told = f"{self.name}: {self.ready} of {self.wanted} pods are ready"
        return "; ".join(filter(None, (told, shards, *self.troubles)))


def component_health(name: str, wanted: int, pods: Sequence[ObservedPod]) -> ComponentHealth:
    """That of one component, of which these pods are there."""
    ready = [pod for pod in pods if pod.ready]
    up = {pod.index for pod in ready}
    down = tuple(n for n in range(wanted) if n not in up) if name == _SHARDED else ()
    troubles = tuple(sorted(f"{pod.name}: {pod.trouble}" for pod in pods if pod.trouble and not pod.ready))
    return ComponentHealth(name, wanted, len(ready), down, troubles)


def components_ready(healths: Sequence[ComponentHealth]) -> Condition:
    """The condition: whether all pods of a server are ready now."""
    ill = [each for each in healths if not each.is_well]
    if not ill:
        return condition(COMPONENTS_READY, True, "PodsReady", "All pods are ready.")
    of_shards = any(each.shards_down for each in ill)
    message = ". ".join(str(each).rstrip(".") for each in ill) + "."
    return condition(COMPONENTS_READY, False, "ShardDown" if of_shards else "PodsMissing", message)


def with_components(status: Status, healths: Sequence[ComponentHealth]) -> Status:
    """A MailServer's status with what is known of its components."""
    now: Condition = components_ready(healths)
    if "observedGeneration" in status:
        now = {**now, "observedGeneration": status["observedGeneration"]}
    told = [each.status for each in healths]
    return {**status, "components": told, "conditions": [*status["conditions"], now]}


class ComponentWatch:
    """One for each engine."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._healths: Mapping[ObjectRef, tuple[ComponentHealth, ...]] = {}

    def look(self, plan: Plan) -> bool:
        """See what is there of a plan's workloads. Returns whether it is other than at the last look."""
        pods: defaultdict[tuple[ObjectRef, str], list[ObservedPod]] = defaultdict(list)
        for pod in self._runtime.observed_pods():
            pods[pod.server, pod.component].append(pod)
        found: defaultdict[ObjectRef, list[ComponentHealth]] = defaultdict(list)
        for each in plan.objects:
            if each["kind"] not in ("StatefulSet", "Deployment"):
                continue
            meta = each["metadata"]
            name = meta["labels"][_LABEL + "component"]
            server = ObjectRef("MailServer", meta["namespace"], meta["labels"][_LABEL + "instance"])
            wanted = self._runtime.replicas(each)
            found[server].append(component_health(name, wanted, pods[server, name]))
        before = self._healths
        self._healths = {server: tuple(healths) for server, healths in found.items()}
        if self._healths == before:
            return False
        metrics.record_pods(
            (ref, each.name, each.wanted, each.ready) for ref, all_ in self._healths.items() for each in all_
        )
        return True

    def add_to(self, statuses: dict[ObjectRef, Status]) -> None:
        """Have the MailServers among them say it."""
        for server in self._healths.keys() & statuses.keys():
            statuses[server] = with_components(statuses[server], self._healths[server])
