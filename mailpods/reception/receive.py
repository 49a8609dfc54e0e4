"""Hands a complete message to the spool, with its trace field, and tells the client how that went."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from mailpods.directory.records import DomainName
from mailpods.message import dkim
from mailpods.message import header as headers
from mailpods.message.verp import token
from mailpods.reception import seal
from mailpods.reception.state import log
from mailpods.refusal import Refusal
from mailpods.routing.router import Routed
from mailpods.rules import chains
from mailpods.rules.chains import Facts
from mailpods.smtp import metrics
from mailpods.smtp.content import Text
from mailpods.spool.message import Envelope, Recipient
from mailpods.spool.spool import SpoolBusy, SpoolClosed, SpoolFull

if TYPE_CHECKING:
    from mailpods.reception.session import Session

FULL = Refusal(452, "4.3.1", "No space left, try again", "spool-full")
BUSY = Refusal(452, "4.3.2", "Too much mail at once, try again", "spool-busy")
CLOSED = Refusal(451, "4.3.0", "Cannot store mail now, try again", "spool-closed")
# Bytes: signing and joining the pieces of a larger message is left to a thread. No larger one is sealed: each
# signature of a stranger's would have all of it read once more.
LARGE = 4 << 20


@dataclass(slots=True)
class Submitted:
    """A message as it came."""

    session: "Session"
    sender: str
    recipients: tuple[Recipient, ...]
    utf8: bool
    eight_bit: bool
    text: Text

    def refusal(self, facts: Facts) -> Refusal | None:
        """What the rules behind DATA say."""
        facts.hops = headers.hops(headers.header_of(self.text.pieces))
        return chains.first(chains.DATA, facts)

    def complete(self, protocol: str, now: float, seal: bytes) -> bytes:
        """All of it, as it is stored and delivered. `seal`: goes in front of one that is passed on."""
        return b"".join([seal, self._added(protocol, now), *self.text.pieces])

    async def seal(self, now: float) -> bytes:
        """What is to be said of a stranger's message that leads to another server (ARC)."""
        if self.session.facts.may_relay or self.text.size > LARGE:
            return b""
        hub = self.session.hub
        for recipient in self.recipients:
            outcome = hub.router.route(recipient.address, may_relay=False)
            domain = hub.reader.domain(DomainName(recipient.address.rpartition("@")[2].lower()))
            if domain and isinstance(outcome, Routed) and outcome.remote:
                return await seal.seal(hub, recipient.address, list(self.text.pieces), now)
        return b""

    def _added(self, protocol: str, now: float) -> bytes:
        """The fields that go in front of the message."""
        facts = self.session.facts
        host = facts.settings.server.hostname
        to = self.recipients[0].address if len(self.recipients) == 1 else None
        added = headers.received(facts.helo, facts.ip, host, protocol, to, now)
        if not facts.may_relay:
            return added
        header = headers.header_of(self.text.pieces)
        completed = b""
        if facts.submission or facts.account:
            completed = headers.completed(header, f"{uuid4().hex}@{host}", now) + self._one_click(header)
        return added + self._signature(completed + header, now) + completed

    def _one_click(self, header: bytes) -> bytes:
        """By which recipients of a mass mailing leave (RFC 8058), where it asks for that and has one."""
        server, key = self.session.facts.settings.server, self.session.hub.key
        if not (self.session.facts.bulk and server.bulk and server.bulk.unsubscribe and key):
            return b""
        if len(self.recipients) != 1 or not headers.wants_one_click(header):
            return b""
        mark = token(key, self.sender.rpartition("@")[2], self.recipients[0].address)
        return (
            f"List-Unsubscribe: <{server.bulk.unsubscribe}/unsubscribe?t={mark}>\r\n"
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        ).encode()

    def _signature(self, header: bytes, now: float) -> bytes:
        """DKIM, by the domain of From, where that is the sender's own or the client is trusted."""
        session = self.session
        if (name := headers.domain_of_sender(header)) is None:
            return b""
        domain = session.hub.reader.domain(DomainName(name))
        account = session.facts.account
        if domain is None or (account and account.partition("/")[0] != str(domain.number)):
            return b""
        owner = session.hub.reader.domain(domain.users_of) if domain.users_of else domain
        if owner is None or not owner.dkim:
            return b""
        try:
            signed = dkim.sign(header, headers.body_of(self.text.pieces), name, owner.dkim, now)
        except ValueError as error:
            log(f"not signed domain={name} {error}")
            return b""
        metrics.SIGNED.inc()
        return signed


async def submit(message: Submitted) -> None:
    """Have the message stored, synced, and only then say 250. Every other outcome is a refusal."""
    session, facts, loop = message.session, message.session.facts, message.session.loop
    now, began = time.time(), loop.time()
    protocol = headers.protocol(session.esmtp, facts.tls, facts.account is not None, message.utf8)
    size, seal = message.text.size, await message.seal(now)
    if size > LARGE:
        body = await loop.run_in_executor(None, message.complete, protocol, now, seal)
    else:
        body = message.complete(protocol, now, seal)
    campaign = headers.campaign(headers.header_of(message.text.pieces)) if facts.bulk else ""
    envelope = Envelope(
        sender=message.sender,
        recipients=message.recipients,
        received_at=now,
        client_ip=facts.ip,
        helo=facts.helo,
        protocol=protocol,
        account=facts.account,
        smtputf8=message.utf8,
        body_8bit=message.eight_bit,
        campaign=campaign,
    )
    message.text.pieces.clear()
    try:
        id = await session.hub.spool.accept(envelope, body)
    except SpoolFull:
        session.refuse(FULL)
    except SpoolBusy:
        session.refuse(BUSY)
    except SpoolClosed:
        session.refuse(CLOSED)
    else:
        metrics.ACCEPTED.inc()
        metrics.ACCEPTED_BYTES.inc(size)
        metrics.COMMIT.observe(loop.time() - began)
        account = f" account={facts.account}" if facts.account else ""
        log(
            f"accepted id={id} client={facts.ip}{account} protocol={protocol} from=<{message.sender}>"
            f" recipients={len(message.recipients)} size={size}"
        )
        session.reply(f"250 2.0.0 Ok: queued as {id}\r\n".encode())
    session.release()
