"""The words in which a component is declared. All that differs between components is said with them, once.

Workloads, Services, NetworkPolicies, disruption budgets, probes, pruning, ports of nodes, processes of one
machine, PodMonitors and the acknowledgement derive from declarations: nothing else has to be told.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mail_operator.components.installation import Installation
from mail_operator.kinds.mailserver import Resources

# Who is admitted to a port, beside components by name:
WORLD = "*world"  # everybody
PODS = "*pods"  # any pod of the cluster: probes, metrics, and what the operator asks
API_SERVER = "*api-server"  # its pod proxy, over which people ask
# Whom a component reaches, beside other components:
DNS = "*dns"
MAIL_SERVERS = "*mail-servers"  # those of others, or the smarthosts alone where nothing goes directly


@dataclass(frozen=True)
class Port:
    """A port of a container. `name` has 15 characters at most (RFC 6335 §5.1) and is unique in the pod.

    The program finds its number in the environment's PORT_<NAME>; its twin with PROXY header is <name>-pp.
    """

    name: str
    number: int  # in the pod
    public: int | None = None  # by which the world knows it: of the Service, and of nodes
    proxy: int | None = None  # the number of its twin, where that is asked for
    admits: tuple[str, ...] = ()
    variable: str = ""  # of the environment, where it is not PORT_<NAME>

    @property
    def environment(self) -> str:
        """The variable that tells the program its number."""
        return self.variable or "PORT_" + self.name.upper().replace("-", "_")

    @property
    def twin(self) -> "Port | None":
        """The same port for those who send a PROXY header first."""
        return Port(f"{self.name}-pp", self.proxy) if self.proxy else None


@dataclass(frozen=True)
class Volume:
    """What a container sees at /<name>.

    - files: a set of the directory's files (`directory`, or `credentials` with hashes).
    - certificate: the server's, with its key; authority: only its issuer's certificate, if known.
    - scratch, memory: empty at each start, of `size` at most.
    - claim: a volume that each pod keeps, of the size that the MailServer says.
    """

    name: str
    kind: Literal["files", "certificate", "authority", "scratch", "memory", "claim"]
    size: str = ""
    claimed: Callable[[Installation], str] | None = None

    @property
    def read_only(self) -> bool:
        """Whether it is given by others."""
        return self.kind in ("files", "certificate", "authority")


DIRECTORY = Volume("directory", "files")
CREDENTIALS = Volume("credentials", "files")
TLS = Volume("tls", "certificate")
AUTHORITY = Volume("ca", "authority")
TMP = Volume("tmp", "scratch", "1Gi")
ADMIN = Port("admin", 9100, admits=(PODS,))


def _nothing(_: Installation) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Container:
    """One program. It serves /livez, /readyz and /metrics at its `admin` port, /directory if it has files."""

    name: str
    command: Callable[[Installation], tuple[str, ...]]
    mounts: tuple[Volume, ...]
    memory: str  # what it asks for, unless the MailServer says another amount
    ports: tuple[Port, ...] = (ADMIN,)
    admin: str = "admin"
    image: Callable[[Installation], str] = lambda at: at.image
    resources: Callable[[Installation], Resources] = lambda at: Resources()
    env: Callable[[Installation], Mapping[str, str]] = _nothing
    fields: Mapping[str, str] = field(default_factory=dict)  # variable -> path in the pod (downward API)
    holds_key: bool = False  # INSTALLATION_KEY, by which pods of an installation know each other

    @property
    def admin_port(self) -> int:
        """The number of its admin port."""
        return next(port.number for port in self.ports if port.name == self.admin)

    def opened(self, at: Installation) -> Iterator[Port]:
        """Its ports in this installation."""
        yield from self.ports
        if at.proxied:
            yield from (port.twin for port in self.ports if port.twin)


@dataclass(frozen=True)
class Component:
    """One kind of pod. With a claim its pods are a StatefulSet, without one a Deployment."""

    name: str
    containers: tuple[Container, ...]
    replicas: Callable[[Installation], int]
    optional: bool = True  # without replicas there is nothing of it at all
    vital: bool = False  # without it nothing works, and nothing is said to be Ready
    exposed: bool = True  # its Service is of the type that the MailServer says; or it lies behind an Ingress
    pods_service: str = ""  # suffix of the headless Service that gives each pod a name, if it has one
    talks_to: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # component -> names of its ports
    reaches: tuple[str, ...] = ()
    grace_seconds: int = 30
    node_selector: Callable[[Installation], Mapping[str, str]] = _nothing  # beside the MailServer's

    @property
    def ports(self) -> tuple[Port, ...]:
        """Of all its containers."""
        return tuple(port for container in self.containers for port in container.ports)

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """Of all its containers."""
        return tuple(dict.fromkeys(volume for container in self.containers for volume in container.mounts))

    @property
    def claims(self) -> tuple[Volume, ...]:
        """The volumes that its pods keep."""
        return tuple(volume for volume in self.volumes if volume.kind == "claim")

    @property
    def workload(self) -> Literal["StatefulSet", "Deployment"]:
        """The kind of the object that runs its pods."""
        return "StatefulSet" if self.claims else "Deployment"

    @property
    def reports(self) -> tuple[tuple[int, str], ...]:
        """(admin port, file set) of each container that says at /directory what it has loaded."""
        return tuple(
            (container.admin_port, volume.name)
            for container in self.containers
            for volume in container.mounts
            if volume.kind == "files"
        )

    def port(self, name: str) -> Port:
        """One of its ports. Raises KeyError."""
        return {port.name: port for port in self.ports}[name]

    def exists(self, at: Installation) -> bool:
        """Whether this installation has it."""
        return not self.optional or self.replicas(at) > 0
