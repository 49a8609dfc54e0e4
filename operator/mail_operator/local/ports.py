"""Which port of this machine stands for which port of a pod, and for which name in the cluster."""

import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Manifest = Mapping[str, Any]
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 10240  # of those that are chosen; known services lie below


class PortTaken(Exception):
    """A port that the installation should listen on is in use; the message says which, and what to do."""


class Ports:
    """Service ports appear at their number plus `offset` (None: any free one); others at a free one.

    A choice once made stays for the life of this object.
    """

    def __init__(self, host: str, offset: int | None) -> None:
        self._host = host
        self._offset = offset
        self._chosen: dict[tuple[str, str], int] = {}  # (pod, port name) -> port of this machine
        self._held: set[int] = set()
        self._offered: set[tuple[str, str]] = set()

    def choose(self, pod: str, port: str, service_port: int | None) -> int:
        """This machine's port for a pod's port, which a Service offers as `service_port` or not at all."""
        key = (pod, port)
        if key not in self._chosen:
            if service_port is not None:
                self._offered.add(key)
            wanted = 0 if service_port is None or self._offset is None else service_port + self._offset
            self._chosen[key] = self._free(wanted)
        return self._chosen[key]

    def _free(self, wanted: int) -> int:
        if wanted in self._held:
            return wanted  # of a pod that is gone: a Service's port has one pod at a time here
        why = "no free port"
        for port in (wanted,) if wanted else _candidates():
            if port in self._held:
                continue
            if (taken := self._taken(port)) is None:
                self._held.add(port)
                return port
            why = f"port {port} of {self._host}: {taken}"
        raise PortTaken(f"{why}; end what listens there, or choose others with --port-offset")

    def _taken(self, port: int) -> str | None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, port))
            except OSError as error:
                return error.strerror
        return None

    def offered(self) -> dict[str, int]:
        """Port name -> this machine's port, of the ports that Services offer."""
        return {key[1]: port for key, port in self._chosen.items() if key in self._offered}

    def of(self, pod: str, port: str) -> int:
        """The port chosen before."""
        return self._chosen[pod, port]


def _candidates() -> Iterator[int]:
    """In any order; first those that no connection of this machine gets as its own end.

    A program that starts again while such a connection holds its port could not listen.
    """
    try:
        first_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first_ephemeral = 32768
    better = range(_FIRST, first_ephemeral)
    yield from random.sample(better, len(better))
    yield from range(max(_FIRST, first_ephemeral), 65536)


def service_ports(services: list[Manifest], labels: Mapping[str, str]) -> dict[str, int]:
    """Port name of the pod -> port of the Service with an address of its own that selects the pod."""
    return {
        str(port.get("targetPort", port["port"])): port["port"]
        for service in services
        if service["spec"].get("clusterIP") != "None" and selects(service, labels)
        for port in service["spec"]["ports"]
    }


def selects(service: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether the Service leads to pods with these labels."""
    selector: Mapping[str, str] = service["spec"].get("selector", {})
    return bool(selector) and selector.items() <= labels.items()
