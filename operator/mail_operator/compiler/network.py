"""Builders of what leads to the pods: Services, and NetworkPolicies that open just their paths."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from mail_operator.compiler.workloads import (
    AUTH_PORTS,
    BULK_PORTS,
    PORTAL_PORTS,
    PORTAL_SERVICE_PORT,
    SMTP_PORTS,
    STANDARD_PORTS,
    STORE_PORTS,
    Installation,
)
from mailpods.directory.records import Server, Service

Manifest = dict[str, Any]

# Port that users know -> port name of the pod.
SMTP_SERVICE = {number: name for name, number in STANDARD_PORTS.items() if name in SMTP_PORTS}
BULK_SERVICE = {number: name for name, number in STANDARD_PORTS.items() if name in BULK_PORTS}
STORE_SERVICE = {number: name for name, number in STANDARD_PORTS.items() if name in STORE_PORTS}
_SMTP = 25
_HTTPS = 443  # at which domains publish their MTA-STS policies
_DNS_PORTS = (
    53,
    5353,
)  # behind port 53 of their Service the servers of some clusters listen on the other one
# An API server's pod proxy, over which people ask, comes from the node, or from an agent there.
_KUBE_SYSTEM = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
PASSED_ON: tuple[Service, ...] = ("imap", "pop3", "sieve")  # from one store pod to another, with STARTTLS


def smtp_service(at: Installation) -> Manifest:
    """Where the world and the users hand mail in."""
    return _public_service(at, "smtp", SMTP_SERVICE)


def bulk_service(at: Installation) -> Manifest:
    """Where users hand mass mailings in."""
    return _public_service(at, "bulk", BULK_SERVICE)


def portal_service(at: Installation) -> Manifest:
    """Where an Ingress or a Gateway finds the pages for everybody."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": at.metadata(f"{at.name}-portal", "portal"),
        "spec": {
            "type": "ClusterIP",
            "selector": at.labels("portal"),
            "ports": [_port(PORTAL_SERVICE_PORT, "portal")],
        },
    }


def store_service(at: Installation) -> Manifest:
    """Where users read mail. Any store pod takes any login, so that it needs no knowledge."""
    return _public_service(at, "store", STORE_SERVICE)


def shards_service(at: Installation) -> Manifest:
    """Gives every store pod a name of its own."""
    ports = {STORE_PORTS[name]: name for name in ("lmtp", "quota")}
    return _headless_service(at, f"{at.name}-store-shards", "store", ports)


def pods_service(at: Installation, component: str) -> Manifest:
    """Gives every smtp pod, or every one of the bulk pool, a name of its own."""
    ports = {SMTP_PORTS["queue"]: "queue"}
    return _headless_service(at, f"{at.name}-{component}-pods", component, ports)


def peers(at: Installation, component: str, replicas: int) -> tuple[str, ...]:
    """Where all pods of such a kind take each other's queue."""
    host = f"{at.name}-{component}-pods.{at.namespace}.svc"
    return tuple(f"{at.name}-{component}-{n}.{host}:{SMTP_PORTS['queue']}" for n in range(replicas))


def shard_host(at: Installation, shard: int) -> str:
    """The name of a store pod in the cluster."""
    return f"{at.name}-store-{shard}.{at.name}-store-shards.{at.namespace}.svc"


def login_endpoints(at: Installation, shard: int) -> dict[Service, str]:
    """Where a store pod takes logins that another one passes on."""
    host = shard_host(at, shard)
    return {name: f"{host}:{STORE_PORTS[name]}" for name in PASSED_ON}


def smtp_network_policy(at: Installation, record: Server) -> Manifest:
    """SMTP from everywhere; what believes a PROXY header only from those that are known as proxies.

    Out to the store, to the other smtp pods, and where mail for other servers goes.
    """
    proxied = {name: number for name, number in SMTP_PORTS.items() if name.endswith("-pp")}
    public = {name: SMTP_PORTS[name] for name in SMTP_SERVICE.values()}
    # What filters of users send comes from the store.
    from_store = {"from": [_component(at, "store")], "ports": _policy_ports({"queue": SMTP_PORTS["queue"]})}
    rules = [_from_anywhere(public), _from_proxies(at, proxied), *_to_themselves(at, "smtp"), from_store]
    # To the bulk pods, also while there are none: what comes back of mailings is told to those that come.
    told = _to_component(at, "bulk", {"queue": SMTP_PORTS["queue"]})
    return _network_policy(at, "smtp", rules, [*_outward(at, "smtp", record), told])


def bulk_network_policy(at: Installation, record: Server) -> Manifest:
    """The same for the pods of mass mailings, on their own ports."""
    public = {name: BULK_PORTS[name] for name in BULK_SERVICE.values()}
    # What comes back of mailings comes from the smtp pods.
    returned = {"from": [_component(at, "smtp")], "ports": _policy_ports({"queue": SMTP_PORTS["queue"]})}
    rules = [_from_anywhere(public), *_to_themselves(at, "bulk"), returned]
    return _network_policy(at, "bulk", rules, _outward(at, "bulk", record))


def portal_network_policy(at: Installation) -> Manifest:
    """Read by everybody; out to nowhere."""
    rules = [
        _from_anywhere({"portal": PORTAL_PORTS["portal"]}),
        _from_pods({"admin": PORTAL_PORTS["admin"]}),
    ]
    return _network_policy(at, "portal", rules, [])


def _to_themselves(at: Installation, component: str) -> list[Manifest]:
    """What is asked of pods that take mail: probes, metrics, and the queue by those who may know of it."""
    return [
        _from_pods({"admin": SMTP_PORTS["admin"], **AUTH_PORTS}),
        {
            "from": [_KUBE_SYSTEM, _component(at, component)],
            "ports": _policy_ports({"queue": SMTP_PORTS["queue"]}),
        },
    ]


def _outward(at: Installation, component: str, record: Server) -> list[Manifest]:
    return [
        *_to_dns(record),
        _to_component(at, "store", {name: STORE_PORTS[name] for name in ("lmtp", "quota")}),
        _to_component(at, component, {"queue": SMTP_PORTS["queue"]}),
        *_to_the_world(record),
    ]


def store_network_policy(at: Installation, record: Server) -> Manifest:
    """Mailboxes from everywhere by login; LMTP, which asks for none, only from this installation.

    Out to the other store pods, for logins that are passed on, and to the smtp pods, with what filters send.
    """
    public = {name: STORE_PORTS[name] for name in STORE_SERVICE.values()}
    proxied = {name: number for name, number in STORE_PORTS.items() if name.endswith("-pp")}
    inner = {name: STORE_PORTS[name] for name in ("lmtp", "quota")}
    rules = [
        _from_anywhere(public),
        _from_proxies(at, proxied),
        {"from": [{"podSelector": {"matchLabels": at.labels()}}], "ports": _policy_ports(inner)},
        _from_pods({"admin": STORE_PORTS["admin"]}),
    ]
    passed_on = _to_component(at, "store", {name: STORE_PORTS[name] for name in PASSED_ON})
    sent = _to_component(at, "smtp", {"queue": SMTP_PORTS["queue"]})
    return _network_policy(at, "store", rules, [*_to_dns(record), passed_on, sent])


def _headless_service(at: Installation, name: str, component: str, ports: Mapping[int, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": at.metadata(name, component),
        "spec": {
            "clusterIP": "None",
            # A shard that waits for its first login must be found, too; one without directory takes a queue.
            "publishNotReadyAddresses": True,
            "selector": at.labels(component),
            "ports": [_port(number, port) for number, port in ports.items()],
        },
    }


def _public_service(at: Installation, component: str, ports: Mapping[int, str]) -> Manifest:
    wanted = at.exposure
    of_pod = {**SMTP_PORTS, **BULK_PORTS, **STORE_PORTS}
    metadata = at.metadata(f"{at.name}-{component}", component)
    if wanted.annotations:
        metadata["annotations"] = dict(wanted.annotations)
    spec: Manifest = {
        "type": wanted.type,
        "selector": at.labels(component),
        "ports": [
            _port(number, name, f"{name}-pp" if wanted.proxies and f"{name}-pp" in of_pod else name)
            for number, name in ports.items()
        ],
    }
    if wanted.type != "ClusterIP":
        # Local keeps the client's address: relay rules and LAN-only services are worth nothing without it.
        spec["externalTrafficPolicy"] = wanted.external_traffic_policy
    if wanted.type == "LoadBalancer" and wanted.load_balancer_class:
        spec["loadBalancerClass"] = wanted.load_balancer_class
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _port(number: int, name: str, target: str = "") -> Manifest:
    return {"name": name, "port": number, "targetPort": target or name, "protocol": "TCP"}


def _policy_ports(ports: Mapping[str, int]) -> list[Manifest]:
    return [{"port": number, "protocol": "TCP"} for number in ports.values()]


def _from_anywhere(ports: Mapping[str, int]) -> Manifest:
    return {"ports": _policy_ports(ports)}


def _from_proxies(at: Installation, ports: Mapping[str, int]) -> Manifest:
    pods: Manifest = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"mailpods.io/proxy": "true"}}}
    blocks: list[Manifest] = [{"ipBlock": {"cidr": str(cidr)}} for cidr in at.exposure.proxies]
    return {"from": [pods, *blocks], "ports": _policy_ports(ports)}


def _from_pods(ports: Mapping[str, int]) -> Manifest:
    return {"from": [{"namespaceSelector": {}}], "ports": _policy_ports(ports)}


def _to_component(at: Installation, component: str, ports: Mapping[str, int]) -> Manifest:
    return {"to": [_component(at, component)], "ports": _policy_ports(ports)}


def _component(at: Installation, component: str) -> Manifest:
    return {"podSelector": {"matchLabels": at.labels(component)}}


def _to_dns(record: Server) -> Iterator[Manifest]:
    """Wherever it is: a node's cache and a cluster's own servers have addresses that nobody here knows."""
    yield {"ports": [{"port": port, "protocol": p} for port in _DNS_PORTS for p in ("UDP", "TCP")]}
    for resolver in record.resolvers:
        host, separator, port = resolver.rpartition(":")
        if separator and "." in host and int(port) not in _DNS_PORTS:
            ports = [{"port": int(port), "protocol": protocol} for protocol in ("UDP", "TCP")]
            yield {"to": [_address(host)], "ports": ports}


def _to_the_world(record: Server) -> Iterator[Manifest]:
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


def _network_policy(
    at: Installation, component: str, ingress: list[Manifest], egress: list[Manifest]
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": at.metadata(f"{at.name}-{component}", component),
        "spec": {
            "podSelector": {"matchLabels": at.labels(component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }
