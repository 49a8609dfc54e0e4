"""Which addresses and ports of this machine an installation gets, and what is said where it cannot."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_operator.components import COMPONENTS
from mail_operator.local.listening import listening
from mail_operator.local.ports import LOOPBACK, Ports, PortTaken, addresses

from tests.support.compiling import Compiled, server

Endpoints = dict[str, dict[str, str]]


def test_ports_that_nobody_asked_for_are_free_and_none_that_a_connection_may_get() -> None:
    chosen = Ports(LOOPBACK, None)
    found = {chosen.inner("pod-0", f"port-{n}", n) for n in range(200)}
    assert len(found) == 200 and max(found) < 32768 and min(found) >= 10240
    assert chosen.inner("pod-0", "port-7", 7) in found and len(found) == 200


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as there:
        there.bind((LOOPBACK, 0))
        there.listen()
        yield there.getsockname()[1]


def test_a_port_in_use_is_named(taken: int) -> None:
    with pytest.raises(PortTaken, match=f"port {taken} of {LOOPBACK}: .*: end what listens .*--port-offset"):
        Ports(LOOPBACK, taken - 25).offer("main-smtp-0", "smtp", 25, False)
    # Of several addresses the one that is taken is said.
    with pytest.raises(PortTaken, match=f"port {taken} of {LOOPBACK}: "):
        Ports(f"127.0.0.2,{LOOPBACK}", taken - 25).offer("main-smtp-0", "smtp", 25, False)


def test_no_number_is_beyond_the_ports() -> None:
    for offset in (70000, -5000):
        with pytest.raises(PortTaken, match=f"port {25 + offset} of .*: is no port: choose another"):
            Ports(LOOPBACK, offset).offer("main-smtp-0", "smtp", 25, False)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("nosuch.invalid", "--bind nosuch.invalid: no address has this name"),
        ("192.0.2.1", "--bind 192.0.2.1: .*no interface of this machine has this address; `ip address`"),
    ],
)
def test_an_address_that_cannot_be_had_has_its_own_remedy(wanted: str, said: str) -> None:
    with pytest.raises(PortTaken, match=said):
        addresses([LOOPBACK, wanted])


def test_a_kernel_without_ipv6_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr("mail_operator.local.ports.socket.socket", refuse)
    with pytest.raises(PortTaken, match=r"--bind ::1: .*: this kernel has no IPv6; leave the address out"):
        addresses(["::1"])


def test_ports_below_1024_are_for_root_or_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> socket.socket:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("mail_operator.local.ports.socket.socket", refuse)
    with pytest.raises(PortTaken, match=r"port 25 of .*below 1024 root alone may listen; start as root"):
        Ports(LOOPBACK, 0).offer("main-smtp-0", "smtp", 25, False)


def test_addresses_are_asked_for_by_number_or_name_and_each_counts_once() -> None:
    assert addresses(["127.0.0.2", LOOPBACK, "127.0.0.2"]) == ("127.0.0.2", LOOPBACK)
    assert LOOPBACK in addresses(["localhost"]) or "::1" in addresses(["localhost"])


def places(bind: str, **spec: Any) -> tuple[dict[str, str], Endpoints]:
    """(the addresses of each pod, where its ports are found) of an installation with this spec."""
    found = Compiled(server(**spec)).plan.objects
    services = [o for o in found if o["kind"] == "Service"]
    chosen, bound, endpoints = Ports(bind, 20000), {}, dict[str, dict[str, str]]()
    for workload in (o for o in found if o["kind"] in ("StatefulSet", "Deployment")):
        for n in range(workload["spec"]["replicas"]):
            pod = f"{workload['metadata']['name']}-{n}"
            bound[pod], at = listening(pod, workload, services, chosen, Path("/s"))
            endpoints[pod] = {name: each.endpoint for name, each in at.items()}
    return bound, endpoints


EVERYTHING: dict[str, Any] = {"bulk": {"replicas": 1}, "portal": {"replicas": 1}}


def test_what_programs_say_to_each_other_goes_over_sockets() -> None:
    bound, found = places("0.0.0.0", **EVERYTHING)
    inner = {f"{p}.{name}": at for p, ports in found.items() for name, at in ports.items() if "/" in at}
    assert all(at == f"unix:/s/{name}" for name, at in inner.items())
    assert {name.partition(".")[2] for name in inner} == {"admin", "auth-admin", "queue", "lmtp", "quota"}
    public = {each.name for component in COMPONENTS for each in component.ports if each.public}
    # What is neither: where Dovecot gives what filters send, which asks who comes.
    open_to_users = {name: at for each in found.values() for name, at in each.items() if "/" not in at}
    assert open_to_users.keys() == public | {"outgoing"}
    assert open_to_users["outgoing"] == "127.0.0.1:22526"
    assert set(bound.values()) == {"0.0.0.0"}


def test_ports_have_fixed_numbers_and_none_meets_another() -> None:
    nine = {"replicas": 9}
    _, found = places(LOOPBACK, smtp=nine, store={"shards": 9}, bulk=nine, portal={"replicas": 1})
    numbers = [at.rpartition(":")[2] for ports in found.values() for at in ports.values() if "/" not in at]
    assert len(numbers) == len(set(numbers)) and all(int(number) >= 20000 for number in numbers)
    assert found["main-store-0"]["imap"] == "127.0.0.1:20143"
    assert found["main-store-2"]["imap"] == "127.0.0.1:24143"
    assert "smtp" not in found["main-smtp-1"] and "queue" in found["main-smtp-1"]


def test_shards_find_each_other_on_loopback_whatever_the_world_is_given() -> None:
    bound, found = places("127.0.0.2", store={"shards": 2})
    assert bound["main-store-0"] == "127.0.0.2,127.0.0.1" and bound["main-store-1"] == "127.0.0.1"
    assert bound["main-smtp-0"] == "127.0.0.2"
    assert found["main-store-0"]["imap"] == "127.0.0.1:20143"
    assert found["main-smtp-0"]["smtp"] == "127.0.0.2:20025"


def test_a_proxy_reaches_the_standard_ports_and_nobody_else_does() -> None:
    _, found = places(LOOPBACK, service={"proxies": ["192.0.2.0/28"]})
    assert found["main-smtp-0"]["smtp-pp"] == "127.0.0.1:20025" and "smtp" not in found["main-smtp-0"]
    assert found["main-store-0"]["imaps-pp"] == "127.0.0.1:20993" and "imap" not in found["main-store-0"]
