"""What NetworkPolicies allow: their semantics as the API documents them, for a handful of pods."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Direction = Literal["ingress", "egress"]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """A pod at an address. `ports` are those of its containers, by name."""

    namespace: str
    name: str
    labels: Labels = field(hash=False)
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class End:
    """One side of a flow: an address, and the pod that has it, if one does."""

    ip: str
    pod: Pod | None = None


@dataclass(frozen=True)
class Opening:
    """One port, or all of them (None), that a rule opens to its peers."""

    policy: str
    direction: Direction
    port: str | None
    peers: str
    spec: Mapping[str, Any] = field(compare=False, repr=False)

    def lets(self, subject: Pod, other: End, port: int, protocol: str, spaces: Mapping[str, Labels]) -> bool:
        """Whether it allows the subject's side of a flow to a port; `spaces`: namespace -> labels."""
        wanted, peers = self.spec["port"], self.spec["peers"]
        if wanted is not None and not _is_port(wanted, port, protocol, subject, other, self.direction):
            return False
        return not peers or any(_is_peer(peer, other, self.spec["namespace"], spaces) for peer in peers)


def openings(policies: Iterable[Mapping[str, Any]]) -> Iterator[Opening]:
    """All that the policies open, port by port."""
    for policy in policies:
        namespace, spec = policy["metadata"]["namespace"], policy["spec"]
        name = f"{namespace}/{policy['metadata']['name']}"
        directions: tuple[tuple[Direction, str], ...] = (("ingress", "from"), ("egress", "to"))
        for direction, key in directions:
            for rule in spec.get(direction) or ():
                peers = rule.get(key) or []
                for port in rule.get("ports") or [None]:
                    label = None if port is None else f"{port.get('protocol', 'TCP')}/{port.get('port', '*')}"
                    given = {"port": port, "peers": peers, "namespace": namespace}
                    yield Opening(name, direction, label, repr(peers), given)


def allowing(
    policies: Iterable[Mapping[str, Any]],
    direction: Direction,
    subject: Pod,
    other: End,
    port: int,
    protocol: str,
    spaces: Mapping[str, Labels],
) -> list[Opening] | None:
    """The openings that let a flow pass on the subject's side; None where no policy restricts it."""
    selecting = [p for p in policies if _selects(p, direction, subject)]
    if not selecting:
        return None
    return [
        opening
        for opening in openings(selecting)
        if opening.direction == direction and opening.lets(subject, other, port, protocol, spaces)
    ]


def _selects(policy: Mapping[str, Any], direction: Direction, pod: Pod) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return (
        direction.capitalize() in types
        and policy["metadata"]["namespace"] == pod.namespace
        and matches(spec.get("podSelector", {}), pod.labels)
    )


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector chooses an object; an empty one chooses all."""
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"no operator: {expression}")


def _is_port(
    wanted: Mapping[str, Any], port: int, protocol: str, subject: Pod, other: End, direction: Direction
) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    first = wanted.get("port")
    if isinstance(first, str):  # a name is one of the pod's whose port it is
        holder = subject if direction == "ingress" else other.pod
        return holder is not None and holder.ports.get(first) == port
    return first is None or first <= port <= wanted.get("endPort", first)


def _is_peer(peer: Mapping[str, Any], other: End, namespace: str, spaces: Mapping[str, Labels]) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(other.ip)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(cidr) for cidr in block.get("except") or ()
        )
    if other.pod is None:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], spaces.get(other.pod.namespace, {})):
            return False
    elif other.pod.namespace != namespace:
        return False
    return matches(peer.get("podSelector", {}), other.pod.labels)
