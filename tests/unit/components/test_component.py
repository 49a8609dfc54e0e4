"""A component is one declaration: everything else that an installation needs for it follows."""

from collections.abc import Mapping
from typing import Any, cast

import pytest
from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.kinds import BUILT_IN, CHILDREN
from mail_operator.cluster.pods import MailPods
from mail_operator.components import COMPONENTS
from mail_operator.components.__main__ import METRICS, metrics
from mail_operator.components.component import PODS, Component, Port
from mail_operator.engine.acknowledgement import Acknowledgements, Expected
from mail_operator.engine.runtime import Runtime

from tests.support.compiling import SERVER, Compiled, server
from tests.support.toy import TOY

Objects = Mapping[tuple[str, str], Any]


def objects(*components: Component, **spec: Any) -> Objects:
    """Objects by kind and name, of an installation that has these components, too."""
    found = Compiled(server(**spec), components=(*COMPONENTS, *components)).plan.objects
    return {(o["kind"], o["metadata"]["name"]): o for o in found}


@pytest.fixture(scope="module")
def made() -> Objects:
    return objects(TOY)


def test_it_has_a_deployment_with_probes_files_and_a_scratch_folder(made: Objects) -> None:
    spec = made["Deployment", "main-toy"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 2
    assert container["command"] == ["python", "-m", "tests.support.toy", "--directory", "/directory"]
    assert {probe: container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")} == {
        "livenessProbe": "admin",
        "readinessProbe": "admin",
        "startupProbe": "admin",
    }
    assert {"name": "PORT_TOY", "value": "7000"} in container["env"]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts == {"directory": True, "tmp": False}
    assert {volume["name"] for volume in spec["template"]["spec"]["volumes"]} == set(mounts)


def test_it_has_a_service_and_a_disruption_budget(made: Objects) -> None:
    service = made["Service", "main-toy"]["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(70, "toy")]
    budget = made["PodDisruptionBudget", "main-toy"]["spec"]
    assert budget["selector"]["matchLabels"] == service["selector"]


def peers(policy: Any, direction: str, key: str, port: int) -> list[Any]:
    """The components that a policy admits, or may reach, at a port."""
    rules = [r for r in policy["spec"][direction] if port in {p["port"] for p in r["ports"]}]
    found = [peer for rule in rules for peer in rule.get(key, [])]
    return [p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component") for p in found]


def test_its_paths_are_open_on_both_ends_whoever_of_the_two_declares_them(made: Objects) -> None:
    toy, smtp = made["NetworkPolicy", "main-toy"], made["NetworkPolicy", "main-smtp"]
    store = made["NetworkPolicy", "main-store"]
    # Said of its port: smtp asks it.
    assert peers(toy, "ingress", "from", 7001) == ["smtp"]
    assert peers(smtp, "egress", "to", 7001) == ["toy"]
    # Said of itself: it asks the store.
    assert peers(toy, "egress", "to", 2340) == ["store"]
    assert "toy" in peers(store, "ingress", "from", 2340)
    assert "toy" not in peers(store, "ingress", "from", 2024)
    assert {"ports": [{"port": 7000, "protocol": "TCP"}]} in toy["spec"]["ingress"]
    before = objects()
    for name in ("main-bulk", "main-portal"):
        assert before.get(("NetworkPolicy", name)) == made.get(("NetworkPolicy", name))


def test_without_replicas_it_is_pruned_and_nothing_of_it_is_there() -> None:
    plan = Compiled(server(portal={"replicas": 0}), components=(*COMPONENTS, toy(0))).plan
    assert not any(o["metadata"]["name"].startswith("main-toy") for o in plan.objects)
    gone = {(ref.kind, ref.name) for ref in plan.prunable[SERVER]}
    assert {(kind, "main-toy") for kind in CHILDREN} <= gone


def toy(replicas: int) -> Component:
    return Component("toy", TOY.containers, replicas=lambda at: replicas)


def test_objects_are_awaited_until_its_pods_have_their_files() -> None:
    expected = Expected(Compiled(server(), components=(*COMPONENTS, TOY)).plan)

    def missing(*components: str) -> frozenset[str]:
        pods = {
            ("default", f"main-{name}-0"): CachedPod(
                name, "main", name, "0", "192.0.2.1", ready=True, deleting=False
            )
            for name in components
        }
        found = MailPods(ApiClient.__new__(ApiClient), lambda: pods, print)
        return Acknowledgements(cast(Runtime, found)).missing(expected, SERVER).files

    assert not missing("portal", "of-a-later-version")
    assert missing("toy") == expected.of(SERVER, "directory").keys()


def test_ports_of_a_pod_differ_in_name_and_number_and_names_fit() -> None:
    for component in COMPONENTS:
        ports = [*component.ports, *(port.twin for port in component.ports if port.twin)]
        assert len({port.name for port in ports}) == len({port.number for port in ports}) == len(ports)
        assert all(len(port.name) <= 15 for port in ports), component.name
        for container in component.containers:
            assert PODS in component.port(container.admin).admits, "probes and metrics are asked there"


def test_whom_a_component_talks_to_is_a_component_with_such_a_port() -> None:
    known = {component.name: component for component in COMPONENTS}
    for component in COMPONENTS:
        for other, ports in component.talks_to.items():
            assert all(isinstance(known[other].port(name), Port) for name in ports)


def test_the_cluster_watches_what_components_are_made_of() -> None:
    kinds = {kind for kind, _ in objects(TOY, bulk={"replicas": 1}, portal={"replicas": 1})}
    assert kinds - {"Secret"} == set(CHILDREN) and set(CHILDREN) <= set(BUILT_IN)


def test_the_chart_knows_all_ports_with_metrics() -> None:
    assert METRICS.read_text() == metrics(), "run: python -m mail_operator.components"
