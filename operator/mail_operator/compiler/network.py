"""Builders of what leads to a component's pods: Services, and NetworkPolicies that open just their paths."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from mail_operator.components import SMTP, STORE
from mail_operator.components.component import (
    API_SERVER,
    DNS,
    MAIL_SERVERS,
    PODS,
    WORLD,
    Component,
    Port,
)
from mail_operator.components.installation import Installation, Manifest
from mail_operator.components.store import PASSED_ON
from mailpods.directory.records import Server, Service

_SMTP = 25
_HTTPS = 443  # at which domains publish their MTA-STS policies
# Behind port 53 of their Service the servers of some clusters listen on the other one.
_DNS_PORTS = (53, 5353)
# An API server's pod proxy, over which people ask, comes from the node, or from an agent there.
_KUBE_SYSTEM = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}


def services(at: Installation, component: Component, components: Iterable[Component]) -> Iterator[Manifest]:
    """The Service for the world, and the one that gives each pod a name of its own, for other pods."""
    if public := [port for port in component.ports if port.public]:
        yield _public_service(at, component, public)
    if component.pods_service:
        called = {port.name for _, whom, port in _talks(components) if whom == component.name}
        yield _headless_service(at, component, [port for port in component.ports if port.name in called])


def pod_host(at: Installation, component: Component, ordinal: int) -> str:
    """The name of a pod in the cluster."""
    name = f"{at.name}-{component.name}"
    return f"{name}-{ordinal}.{name}-{component.pods_service}.{at.namespace}.svc"


def pod_endpoint(at: Installation, component: Component, ordinal: int, port: str) -> str:
    """One of the ports of a pod, as host:port."""
    return f"{pod_host(at, component, ordinal)}:{component.port(port).number}"


def peers(at: Installation, component: Component) -> tuple[str, ...]:
    """Where all pods of such a kind take each other's queue."""
    return tuple(pod_endpoint(at, component, n, "queue") for n in range(component.replicas(at)))


def login_endpoints(at: Installation, shard: int) -> dict[Service, str]:
    """Where a store pod takes logins that another one passes on."""
    return {name: pod_endpoint(at, STORE, shard, name) for name in PASSED_ON}


def endpoints(hostname: str) -> dict[str, str]:
    """Where users reach what, on one host name (R-002-19)."""
    ports = [port for component in (STORE, SMTP) for port in component.ports if port.public]
    return {port.name: f"{hostname}:{port.public}" for port in ports}


def network_policy(at: Installation, component: Component, components: Iterable[Component]) -> Manifest:
    """Just the paths that `components` declare, in both directions; also while some have no pods."""
    talks = _talks(components)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": at.metadata(f"{at.name}-{component.name}", component.name),
        "spec": {
            "podSelector": {"matchLabels": at.labels(component.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(_ingress(at, component, talks)),
            "egress": list(_egress(at, component, talks)),
        },
    }


_Talks = list[tuple[str, str, Port]]  # (who, to whom, at which port)


def _talks(components: Iterable[Component]) -> _Talks:
    """All paths between components, whichever of the two declares them."""
    known = {component.name: component for component in components}
    found: dict[tuple[str, str, str], Port] = {}
    for component in known.values():
        for other, ports in component.talks_to.items():
            for name in ports if other in known else ():
                found[component.name, other, name] = known[other].port(name)
        for port in component.ports:
            for who in known.keys() & set(port.admits):
                found[who, component.name, port.name] = port
    return [(who, whom, port) for (who, whom, _), port in sorted(found.items())]


def _ingress(at: Installation, component: Component, talks: _Talks) -> Iterator[Manifest]:
    if public := [port for port in component.ports if WORLD in port.admits]:
        yield {"ports": _tcp(public)}
    if at.proxied and (twins := [port.twin for port in component.ports if port.twin]):
        yield {"from": list(_proxies(at)), "ports": _tcp(twins)}
    grouped: dict[tuple[str, ...], list[Port]] = defaultdict(list)
    for port in component.ports:
        if WORLD not in port.admits:
            talking = [who for who, whom, at_port in talks if (whom, at_port) == (component.name, port)]
            grouped[*(who for who in (PODS, API_SERVER) if who in port.admits), *talking].append(port)
    for admitted, ports in grouped.items():
        if admitted:
            yield {"from": [_peer(at, who) for who in admitted], "ports": _tcp(ports)}


def _egress(at: Installation, component: Component, talks: _Talks) -> Iterator[Manifest]:
    assert at.record is not None
    if DNS in component.reaches:
        yield from _to_dns(at.record)
    grouped: dict[str, list[Port]] = defaultdict(list)
    for who, whom, port in talks:
        if who == component.name:
            grouped[whom].append(port)
    for whom, ports in grouped.items():
        yield {"to": [_peer(at, whom)], "ports": _tcp(ports)}
    if MAIL_SERVERS in component.reaches:
        yield from _to_mail_servers(at.record)


def _peer(at: Installation, who: str) -> Manifest:
    if who == PODS:
        return {"namespaceSelector": {}}
    return _KUBE_SYSTEM if who == API_SERVER else {"podSelector": {"matchLabels": at.labels(who)}}


def _proxies(at: Installation) -> Iterator[Manifest]:
    """Who may send a PROXY header: what the MailServer names, and nobody by a label of his own choice."""
    for cidr in at.spec.service.proxies:
        yield {"ipBlock": {"cidr": str(cidr)}}
    for pods in at.spec.service.proxy_pods:
        yield pods.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)


def _headless_service(at: Installation, component: Component, ports: list[Port]) -> Manifest:
    name = f"{at.name}-{component.name}-{component.pods_service}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": at.metadata(name, component.name),
        "spec": {
            "clusterIP": "None",
            # A shard that waits for its first login must be found, too; one without directory takes a queue.
            "publishNotReadyAddresses": True,
            "selector": at.labels(component.name),
            "ports": [_service_port(port.number, port.name) for port in ports],
        },
    }


def _public_service(at: Installation, component: Component, ports: list[Port]) -> Manifest:
    """Any pod takes any client, so that it needs no knowledge."""
    wanted = at.spec.service
    metadata = at.metadata(f"{at.name}-{component.name}", component.name)
    spec: Manifest = {
        "type": wanted.type if component.exposed else "ClusterIP",
        "selector": at.labels(component.name),
        "ports": [
            _service_port(port.public or 0, port.name, port.twin if at.proxied else None) for port in ports
        ],
    }
    if component.exposed:
        spec["ipFamilyPolicy"] = wanted.ip_family_policy
        if wanted.ip_families:
            spec["ipFamilies"] = list(wanted.ip_families)
        if wanted.annotations:
            metadata["annotations"] = dict(wanted.annotations)
        if wanted.type != "ClusterIP":
            # Local keeps the client's address: relay rules and LAN-only services are worth nothing without.
            spec["externalTrafficPolicy"] = wanted.external_traffic_policy
        if wanted.type == "LoadBalancer" and wanted.load_balancer_class:
            spec["loadBalancerClass"] = wanted.load_balancer_class
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _service_port(number: int, name: str, twin: Port | None = None) -> Manifest:
    return {"name": name, "port": number, "targetPort": twin.name if twin else name, "protocol": "TCP"}


def _tcp(ports: Iterable[Port]) -> list[Manifest]:
    return [{"port": port.number, "protocol": "TCP"} for port in ports]


def _to_dns(record: Server) -> Iterator[Manifest]:
    """Wherever it is: a node's cache and a cluster's own servers have addresses that nobody here knows."""
    yield {"ports": [{"port": port, "protocol": p} for port in _DNS_PORTS for p in ("UDP", "TCP")]}
    for resolver in record.resolvers:
        host, separator, port = resolver.rpartition(":")
        if separator and "." in host and int(port) not in _DNS_PORTS:
            ports = [{"port": int(port), "protocol": protocol} for protocol in ("UDP", "TCP")]
            yield {"to": [_address(host)], "ports": ports}


def _to_mail_servers(record: Server) -> Iterator[Manifest]:
    """The smarthosts alone, where nothing goes directly (R-003-28). Policies know addresses, and no names."""
    hosts = [record.smarthost, *(route.via for route in record.routes)]
    if record.direct or record.relayed or any(route.via is None for route in record.routes):
        yield {"ports": [{"port": port, "protocol": "TCP"} for port in (_SMTP, _HTTPS)]}
    for host, port in dict.fromkeys((host.host, host.port) for host in hosts if host):
        ports = [{"port": port, "protocol": "TCP"}]
        try:
            yield {"to": [_address(host)], "ports": ports}
        except ValueError:
            yield {"ports": ports}


def _address(host: str) -> Manifest:
    """The peer with one address. Raises ValueError for a name."""
    return {"ipBlock": {"cidr": str(ip_network(host))}}
