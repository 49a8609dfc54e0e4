"""A small Internet: a DNS server that knows some zones, and mail servers at their addresses."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.query
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from bench.processes import free_port

SMTP_PORT = 25


@dataclass
class Sink:
    """A mail server of the world: keeps what it takes. `answer` is what it says to RCPT and to a message."""

    address: str
    taken: list[Envelope] = field(default_factory=list)
    clients: list[tuple[str, str]] = field(default_factory=list)  # who gave it each: address, name in EHLO
    recipient: str = "250 2.1.5 Ok"
    answer: str = "250 2.0.0 taken"

    async def handle_RCPT(self, _: Any, __: Session, envelope: Envelope, address: str, ___: Any) -> str:
        """Take a recipient, or not."""
        if self.recipient.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, _: Any, session: Session, envelope: Envelope) -> str:
        """Take a message, or not."""
        if self.answer.startswith("2"):
            self.taken.append(envelope)
            self.clients.append((str((session.peer or "?")[0]), session.host_name or ""))
        return self.answer

    def client(self, recipient: str) -> tuple[str, str]:
        """Who gave it the message for an address: address, name in EHLO."""
        (found,) = [c for e, c in zip(self.taken, self.clients, strict=True) if recipient in e.rcpt_tos]
        return found

    def to(self, recipient: str) -> list[Envelope]:
        """What came for an address."""
        return [envelope for envelope in self.taken if recipient in envelope.rcpt_tos]


@dataclass
class World:
    """`resolver` is where its DNS server listens."""

    resolver: str
    sinks: dict[int, Sink] = field(default_factory=dict)


@contextmanager
def world(net: str, *records: str, sinks: Sequence[int]) -> Iterator[World]:
    """`net`: the first octets of its addresses, all of which this machine has.

    `records`: options of dnsmasq, such as mx-host=a.test,mx.a.test,10; what is not in them is NXDOMAIN.
    In them, {net} stands for these octets, and {reverse} for them in the other order.
    `sinks`: the last octets of the addresses at which a mail server listens. Needs root, for port 25.
    """
    server_address, port = f"{net}.1", free_port()
    reverse = ".".join(reversed(net.split(".")))
    records = tuple(record.format(net=net, reverse=reverse) for record in records)
    options = ["keep-in-foreground", "conf-file=/dev/null", "no-resolv", "no-hosts", "pid-file=", "user="]
    options += ["bind-interfaces", f"listen-address={server_address}", f"port={port}"]
    # All of these zones is here.
    options += ["local=/test/", "local=/invalid/", "local=/in-addr.arpa/", *records]
    server = subprocess.Popen(["dnsmasq", *(f"--{option}" for option in options)])
    made = World(f"{server_address}:{port}", {number: Sink(f"{net}.{number}") for number in sinks})
    with ExitStack() as stack:
        stack.callback(server.wait)
        stack.callback(server.terminate)
        for sink in made.sinks.values():
            controller = Controller(sink, hostname=sink.address, port=SMTP_PORT, enable_SMTPUTF8=True)
            controller.start()
            stack.callback(controller.stop)
        end = time.monotonic() + 10
        while not _answers(server_address, port):
            assert server.poll() is None and time.monotonic() < end, "the DNS server does not start"
            time.sleep(0.05)
        yield made


def _answers(address: str, port: int) -> bool:
    try:
        dns.query.udp(dns.message.make_query("up.test", "A"), address, 0.5, port)
    except (OSError, dns.exception.DNSException):
        return False
    return True
