"""At which addresses and ports of this machine an installation listens."""

import errno
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mail_operator.engine.runtime import FatalError

Manifest = Mapping[str, Any]
LOOPBACK = "127.0.0.1"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 10240  # of those that are chosen; known services lie below
_BETWEEN_PODS = 1000  # numbers; no two ports of components are equal modulo this
_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}


class PortTaken(FatalError):
    """What the installation should listen on cannot be had; the message says what, and what to do."""


def addresses(wanted: Sequence[str]) -> tuple[str, ...]:
    """The addresses that somebody asks to listen on, by number or by name. Raises PortTaken."""
    found: list[str] = []
    for name in wanted:
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise PortTaken(
                f"--bind {name}: no address has this name ({error.strerror or error}): "
                "write an address of this machine"
            ) from error
        found += [str(info[4][0]) for info in infos]
    for address in found:
        if problem := _unbindable(address, 0):
            raise PortTaken(f"--bind {address}: {problem}")
    return tuple(dict.fromkeys(found))


class Ports:
    """Service ports appear at their number plus `offset` (None: any free one), at all addresses of `bind`.

    Others are for this machine alone: on loopback, at their number in the pod plus the offset, and 1000 more
    for each further pod of its kind. A choice once made stays for the life of this object.
    """

    def __init__(self, bind: str, offset: int | None, metrics: str = LOOPBACK) -> None:
        self._addresses = bind.split(",")
        self._metrics = metrics
        self._offset = offset
        self._chosen: dict[tuple[str, str], int] = {}  # (pod, port name) -> port of this machine
        self._held: set[int] = set()
        self._offered: dict[tuple[str, str], None] = {}

    @property
    def address(self) -> str:
        """At which this machine reaches what is offered."""
        first = self._addresses[0]
        return _WILDCARDS.get(first, first)

    def bound(self, loopback: bool) -> str:
        """The addresses, separated by commas; `loopback`: that is one of them, as other pods come there."""
        covered = not loopback or {LOOPBACK, "0.0.0.0"} & set(self._addresses)
        return ",".join(self._addresses if covered else [*self._addresses, LOOPBACK])

    def offer(self, pod: str, port: str, number: int, loopback: bool) -> int:
        """This machine's port for a pod's port that a Service offers as `number`."""
        self._offered[pod, port] = None
        return self._choose((pod, port), number, self.bound(loopback).split(","))

    def withdraw(self) -> None:
        """Nothing is offered, until it is again."""
        self._offered.clear()

    def inner(self, pod: str, port: str, number: int) -> int:
        """This machine's port, on loopback, for a pod's port `number` that is for this machine alone."""
        ordinal = int(pod.rpartition("-")[2])
        return self._choose((pod, port), number + _BETWEEN_PODS * ordinal, [LOOPBACK])

    def metrics(self, number: int) -> tuple[str, int]:
        """Address and port at which the metrics of all programs are read."""
        self._offered["", "metrics"] = None
        return self._metrics, self._choose(("", "metrics"), number, [self._metrics])

    def _choose(self, key: tuple[str, str], number: int, at: Sequence[str]) -> int:
        if key not in self._chosen:
            self._chosen[key] = self._free(None if self._offset is None else number + self._offset, at)
        return self._chosen[key]

    def _free(self, wanted: int | None, at: Sequence[str]) -> int:
        if wanted in self._held:
            return wanted  # of a pod that is gone: a Service's port has one pod at a time here
        why = "no free port"
        for port in _candidates() if wanted is None else (wanted,):
            if port in self._held:
                continue
            problems = [f"port {port} of {each}: {why}" for each in at if (why := _unbindable(each, port))]
            if not problems:
                self._held.add(port)
                return port
            why = problems[0]
        raise PortTaken(why)

    def offered(self) -> dict[str, int]:
        """Port name -> this machine's port, of the ports that Services offer, and metrics."""
        return {key[1]: self._chosen[key] for key in self._offered}


def _unbindable(address: str, port: int) -> str:
    """Why nobody can listen there, and what to do; "" if one can."""
    if not 0 <= port <= 65535:
        return "is no port: choose another --port-offset"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return f"{error.strerror}: {_remedy(error, family)}"
    return ""


def _remedy(error: OSError, family: socket.AddressFamily) -> str:
    if error.errno == errno.EAFNOSUPPORT or (family == socket.AF_INET6 and not _has_ipv6()):
        return "this kernel has no IPv6; leave the address out, or switch IPv6 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no interface of this machine has this address; `ip address` lists those that there are"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "below 1024 root alone may listen; start as root (programs become another user), choose a "
            "--port-offset, or lower net.ipv4.ip_unprivileged_port_start"
        )
    return "end what listens there, or choose others with --port-offset"


def _has_ipv6() -> bool:
    """Whether any interface has an address of that kind, loopback included."""
    try:
        return bool(Path("/proc/net/if_inet6").read_text())
    except OSError:
        return False


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


def selects(service: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether the Service leads to pods with these labels."""
    selector: Mapping[str, str] = service["spec"].get("selector", {})
    return bool(selector) and selector.items() <= labels.items()
