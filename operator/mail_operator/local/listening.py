"""Where the ports of a pod are on this machine: what a Service and a NetworkPolicy are for on a cluster.

- What a Service offers is at the addresses that people asked for; the first pod of a kind stands for it.
- What pods say to each other, and what is asked of them, goes over Unix sockets in one folder of their own.
- What other pods reach by a pod's name though users do, too (logins that a store pod passes on), and what a
  pod has for itself, is on loopback.
- Everything else is closed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mail_operator.local.ports import LOOPBACK, Ports, selects

Manifest = Mapping[str, Any]
_UNIX = "unix:"


@dataclass(frozen=True)
class Listening:
    """One port. `value`: what the program is told; `endpoint`: where others find it."""

    value: str
    endpoint: str


def proxies(workload: Manifest, policies: Sequence[Manifest]) -> str:
    """The networks that may send a PROXY header, separated by commas, as NetworkPolicies say on a cluster."""
    template = workload["spec"]["template"]
    twins = {
        port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", ())
        if port["name"].endswith("-pp")
    }
    found = [
        peer["ipBlock"]["cidr"]
        for policy in policies
        if policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        for rule in policy["spec"]["ingress"]
        if twins & {port["port"] for port in rule["ports"]}
        for peer in rule.get("from", ())
        if "ipBlock" in peer
    ]
    return ",".join(dict.fromkeys(found))


def listening(
    pod: str, workload: Manifest, services: Sequence[Manifest], ports: Ports, sockets: Path
) -> tuple[str, dict[str, Listening]]:
    """The addresses at which a pod's open ports are, and where each is, by name. Raises PortTaken."""
    template, ordinal = workload["spec"]["template"], int(pod.rpartition("-")[2])
    leading = [each for each in services if selects(each, template["metadata"]["labels"])]
    offered = {
        str(port.get("targetPort", port["port"])): port["port"]
        for each in leading
        if each["spec"].get("clusterIP") != "None"
        for port in each["spec"]["ports"]
    }
    known = offered.keys() | {
        port.get("name")
        for each in leading
        if each["spec"].get("clusterIP") != "None"
        for port in each["spec"]["ports"]
    }
    by_name = {
        port["name"]
        for each in leading
        if each["spec"].get("clusterIP") == "None"
        for port in each["spec"]["ports"]
    }
    passed_on = bool(known & by_name) and workload["spec"].get("replicas", 1) > 1
    found: dict[str, Listening] = {}
    for container in template["spec"]["containers"]:
        probed = container.get("readinessProbe", {}).get("httpGet", {}).get("port")
        for port in container.get("ports", ()):
            name, number = port["name"], port["containerPort"]
            if name in offered and not ordinal:
                here = ports.offer(pod, name, offered[name], passed_on)
                at = LOOPBACK if passed_on else ports.address
                found[name] = Listening(str(here), f"{at}:{here}")
            elif name not in known and (name in by_name or name == probed):
                path = f"{_UNIX}{sockets / f'{pod}.{name}'}"
                found[name] = Listening(path, path)
            elif name not in known or (name in by_name and passed_on):
                here = ports.inner(pod, name, number)
                found[name] = Listening(str(here), f"{LOOPBACK}:{here}")
    return (LOOPBACK if ordinal else ports.bound(passed_on)), found
