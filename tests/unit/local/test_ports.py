"""Which ports of this machine an installation gets."""

import socket

import pytest
from mail_operator.local.ports import Ports, PortTaken

HOST = "127.0.0.1"


def test_ports_that_nobody_asked_for_are_free_and_none_that_a_connection_may_get() -> None:
    chosen = Ports(HOST, None)
    found = {chosen.choose("pod", f"port-{n}", None) for n in range(200)}
    assert len(found) == 200 and max(found) < 32768 and min(found) >= 10240
    assert chosen.choose("pod", "port-7", None) in found and len(found) == 200


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as there:
        there.bind((HOST, 0))
        there.listen()
        port = there.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} of {HOST}: .*--port-offset"):
            Ports(HOST, port - 25).choose("main-smtp-0", "smtp", 25)
