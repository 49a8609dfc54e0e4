"""What a MailServer says of its pods."""

from typing import Any

from mail_operator.cluster.cached import cache_pod
from mail_operator.compiler.status import hindrance_of
from mail_operator.engine.component_health import component_health, components_ready, with_components
from mail_operator.engine.metrics import record_pods
from mail_operator.engine.runtime import ObservedPod
from mail_operator.kinds.mailserver import MailServerStatus
from prometheus_client import REGISTRY

from tests.support.compiling import SERVER

READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "It works."}


def pod(component: str, index: int, ready: bool = True, trouble: str = "") -> ObservedPod:
    return ObservedPod(SERVER, component, f"main-{component}-{index}", ready, index, trouble)


def test_shards_are_named_and_pods_of_others_are_counted() -> None:
    store = component_health("store", 3, [pod("store", 0), pod("store", 1, False, "store: no memory.")])
    smtp = component_health("smtp", 2, [pod("smtp", 1)])
    assert store.shards_down == (1, 2) and smtp.shards_down == ()
    told = components_ready([smtp, store])
    assert (told["status"], told["reason"]) == ("False", "ShardDown")
    assert told["message"] == (
        "smtp: 1 of 2 pods are ready. "
        "store: 1 of 3 pods are ready; shard 1 is down, shard 2 is down; main-store-1: store: no memory."
    )
    assert components_ready([smtp])["reason"] == "PodsMissing"
    well = component_health("smtp", 1, [pod("smtp", 0), pod("smtp", 1, False, "it ended")])
    assert components_ready([well])["reason"] == "PodsReady", "it is on its way out, or one too many"


def test_the_status_is_valid_and_says_first_what_is_down() -> None:
    store = component_health("store", 100, [])
    status: Any = with_components({"conditions": [READY], "observedGeneration": 3}, [store])
    times = [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z"} for c in status["conditions"]]
    read = MailServerStatus.model_validate({**status, "conditions": times}, strict=False)
    assert read.components[0].shards_down == list(range(100))
    assert all(c.observed_generation == 3 for c in read.conditions if c.type == "ComponentsReady")
    assert hindrance_of(status).startswith("ShardDown: store: 0 of 100")
    assert hindrance_of({"conditions": [READY]}) == ""


def test_the_gauge_forgets_what_is_gone() -> None:
    labels = {"namespace": SERVER.namespace, "server": SERVER.name, "component": "smtp"}

    def value(state: str) -> float | None:
        return REGISTRY.get_sample_value("mailpods_operator_pods", {**labels, "state": state})

    record_pods([(SERVER, "smtp", 2, 1)])
    assert (value("wanted"), value("ready")) == (2, 1)
    record_pods([])
    assert value("wanted") is None


def trouble(**status: Any) -> str:
    return cache_pod({"metadata": {"uid": "u"}, "status": status}, None).trouble


def test_what_a_cluster_knows_of_a_pods_trouble_is_told() -> None:
    def waiting(reason: str) -> dict[str, Any]:
        return {"name": "x", "state": {"waiting": {"reason": reason}}}

    assert trouble(containerStatuses=[{"state": {"running": {}}}, waiting("CrashLoopBackOff")]) == (
        "CrashLoopBackOff"
    )
    assert trouble(containerStatuses=[waiting("ContainerCreating")]) == ""
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    assert trouble(conditions=[unscheduled]) == "Unschedulable: no node"
