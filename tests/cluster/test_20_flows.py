"""NetworkPolicies against what really happened: each flow of the stories is allowed, and nothing else is."""

import json
import os
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from mail_operator.cluster.__main__ import PORT as OPERATOR_PORT

from tests.cluster.flows import Flow, Recording
from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import Operator
from tests.cluster.outside import elsewhere
from tests.cluster.testcluster.places import NODE_IP, POD_NETWORK, SERVICE_NETWORK
from tests.support.installation import message, wait
from tests.support.netpol import Direction, End, Labels, Opening, Pod, allowing, openings

pytestmark = pytest.mark.skipif("MAILPODS_NETNS" not in os.environ, reason="flows are recorded there alone")

# The node's addresses: its own, and the one on the bridge of its pods.
NODE = {NODE_IP, str(next(ip_network(POD_NETWORK).hosts()))}
OURS = ("mailpods", "mailpods-operator")  # app.kubernetes.io/name of the pods that policies are for
# What no story uses, and why it is open all the same.
UNUSED = {
    "ingress": {
        "ManageSieve; told on one machine": {"TCP/4190"},
    },
    "egress": {
        "DNS servers of other clusters, and answers that are too long for UDP": (
            {"UDP/5353", "TCP/5353", "TCP/53"}
        ),
        "policies of MTA-STS; told with servers in one process": {"TCP/443"},
        "logins by POP3 and ManageSieve that are passed on to their shard; told on one machine": (
            {"TCP/2110", "TCP/4190"}
        ),
    },
}


@pytest.mark.timeout(240)
def test_mail_leaves_the_cluster_by_mx(installation: ClusterInstallation) -> None:
    with elsewhere() as sink:

        def arrived() -> bool:
            with installation.submission("7/info", "pw-info") as client:
                client.send_message(message("info@a.test", "x@elsewhere.test", "out"))
            return bool(sink.to("x@elsewhere.test"))

        wait(arrived, 60, "nothing arrived")


# As a Prometheus in the cluster does; the namespace admits restricted pods alone.
# Whatever enforces policies learns of a new pod a moment after it began.
_SCRAPE = """
import sys, time, urllib.request
end = time.monotonic() + 30
for url in sys.argv[1:]:
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).read()
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
"""
_RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def scrape(*urls: str) -> None:
    """Read what the URLs give, from a pod."""
    image = fetched("StatefulSet", "main-smtp")["spec"]["template"]["spec"]["containers"][0]["image"]
    container = {"name": "scrape", "image": image, "command": ["python3", "-c", _SCRAPE, *urls]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scrape", "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{**container, "securityContext": _RESTRICTED}],
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def ended() -> str | None:
        phase = fetched("Pod", "scrape")["status"].get("phase")
        return phase if phase in ("Succeeded", "Failed") else None

    phase = wait(ended, 60)
    assert phase == "Succeeded", kubectl("logs", "scrape", "-n", NAMESPACE)
    kubectl("delete", "pod", "scrape", "-n", NAMESPACE)


def test_metrics_are_read_from_within_the_cluster(
    installation: ClusterInstallation, operator: Operator
) -> None:
    pod, smtp = operator.pod(), fetched("Pod", "main-smtp-0")
    assert pod
    scrape(
        f"http://{pod['status']['podIP']}:{OPERATOR_PORT}/metrics",
        f"http://{smtp['status']['podIP']}:9100/metrics",
    )


def judge(
    flows: set[Flow], pods: dict[str, list[Pod]], policies: list[Any], spaces: dict[str, Labels]
) -> tuple[set[Flow], set[Opening]]:
    """(the flows that a policy forbids, the openings that were used)."""
    denied: set[Flow] = set()
    used: set[Opening] = set()

    def ends(ip: str) -> list[End]:
        return [End(ip, pod) for pod in pods.get(ip, ())] or [End(ip)]

    for flow in flows:
        sources, targets = ends(flow.source), ends(flow.destination)
        sides: tuple[tuple[Direction, list[End], list[End]], ...] = (
            ("ingress", targets, sources),
            ("egress", sources, targets),
        )
        for direction, subjects, others in sides:
            ours = [e.pod for e in subjects if e.pod and e.pod.labels.get("app.kubernetes.io/name") in OURS]
            good = not ours
            for subject in ours:
                for other in others:
                    found = allowing(policies, direction, subject, other, flow.port, flow.protocol, spaces)
                    used.update(found or ())
                    # A node and its own pods reach each other whatever policies say.
                    good |= found is None or bool(found) or other.ip in NODE
            if not good:
                denied.add(flow)
    return denied, used


def test_every_flow_is_allowed_and_every_opening_is_used(
    installation: ClusterInstallation, recording: Recording, request: pytest.FixtureRequest
) -> None:
    installation.deliver("x@example.net", "info@a.test")
    policies = json.loads(kubectl("get", "networkpolicies", "-A", "-o", "json"))["items"]
    namespaces = json.loads(kubectl("get", "namespaces", "-o", "json"))["items"]
    spaces = {n["metadata"]["name"]: n["metadata"].get("labels", {}) for n in namespaces}
    # Policies see the pod behind a Service, whose own address is a flow of its own here.
    services = ip_network(SERVICE_NETWORK)
    flows = {flow for flow in recording.flows() if ip_address(flow.destination) not in services}
    pods = recording.pods()
    denied, used = judge(flows, pods, policies, spaces)
    assert {flow.port for flow in flows} >= {2525, 2024, 9100}  # it is no empty recording
    assert not {(flow, *pods.get(flow.source, ()), *pods.get(flow.destination, ())) for flow in denied}
    stories = {item.path.name for item in request.session.items}
    if stories >= {file.name for file in Path(__file__).parent.glob("test_*.py")}:
        idle = {
            (each.policy, each.direction, each.port)
            for each in set(openings(policies)) - used
            if not any(each.port in ports for ports in UNUSED[each.direction].values())
        }
        assert not idle, "nobody needs these"
