"""A DNS server that answers as a test wants, in the loop of the test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Answer = Callable[[dns.message.Message], bytes | None]


class Server(asyncio.DatagramProtocol):
    """Answers each question by a function; None is silence. `resolver` is where it is asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.resolver = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.resolver = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        self.asked[question.question[0].to_text().split(" ")[-1]] += 1
        if (answer := self.answer(question)) is not None:
            self._transport.sendto(answer, address)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    """A running one."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Server(answer), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()


def zone(*records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> Answer:
    """Answers from records in the form of a zone file; what is not among them is empty, with `rcode`."""

    def answer(question: dns.message.Message) -> bytes:
        name, _, kind = question.question[0].to_text().split(" ")
        found = [line for line in records if line.split()[0] == name and line.split()[3] == kind]
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.RA
        if found:
            values = [line.split(maxsplit=4)[4] for line in found]
            reply.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *values))
        elif not any(line.split()[0] == name for line in records):
            reply.set_rcode(rcode)
        return reply.to_wire(max_size=65000)

    return answer


def silent(question: dns.message.Message) -> None:
    """Times out."""


def broken(question: dns.message.Message) -> bytes:
    """Not even DNS."""
    return b"\x00\x01 no DNS at all"


def other_question(question: dns.message.Message) -> bytes:
    """The answer to what nobody asked, which would lead mail elsewhere."""
    other = dns.message.make_query("other.test", "MX")
    other.id = question.id
    reply = dns.message.make_response(other)
    reply.answer.append(dns.rrset.from_text("other.test.", 300, "IN", "MX", "10 evil.test."))
    return reply.to_wire()


# What a server may do that is no answer: by name.
LIES: dict[str, Answer] = {
    "servfail": zone(rcode=dns.rcode.SERVFAIL),
    "refused": zone(rcode=dns.rcode.REFUSED),
    "silence": silent,
    "garbage": broken,
    "another question's answer": other_question,
}
