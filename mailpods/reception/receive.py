"""The one pipeline that a complete message passes on its way into the spool. Who asks for it replies."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

from mailpods.directory.records import Address, DomainName
from mailpods.dns.resolver import NoAnswer
from mailpods.message import dkim, header, results, submission, trace
from mailpods.reception import metrics
from mailpods.reception.recipients import Discarded, Taken
from mailpods.reception.seal import seal
from mailpods.reception.state import ReceptionState, log
from mailpods.refusal import Refusal
from mailpods.rules import chains
from mailpods.rules.context import PolicyContext
from mailpods.smtp.machine import Mail
from mailpods.spool.errors import SpoolBusy, SpoolClosed, SpoolFull
from mailpods.spool.message import Envelope, MessageId, Recipient

FULL = Refusal(452, "4.3.1", "No space left, try again", "spool-full")
BUSY = Refusal(452, "4.3.2", "Too much mail at once, try again", "spool-busy")
CLOSED = Refusal(451, "4.3.0", "Cannot store mail now, try again", "spool-closed")
LONG_HEADER = Refusal(552, "5.3.4", f"Header larger than {header.HEADER_LIMIT} bytes", "header-size")
# Bytes: signing and joining the pieces of a larger message is left to a thread. No larger one is sealed: each
# signature of a stranger's would have all of it read once more.
LARGE = 4 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that is on disk, synced; or that went nowhere, without an id, as all its recipients say."""

    id: MessageId | None


@dataclass(slots=True)
class IncomingMessage:
    """A message as it came, and what the steps make of it. `size` is in bytes, as it came; `now` in seconds
    since the epoch. The message is `front`, header, CRLF and body."""

    context: PolicyContext
    mail: Mail
    recipients: tuple[Taken, ...]
    discarded: tuple[Discarded, ...]
    esmtp: bool
    size: int
    body: list[bytes]  # at first all of its pieces
    now: float = field(default_factory=time.time)
    header: bytes = b""
    front: bytes = b""  # fields of ours

    @property
    def protocol(self) -> str:
        """That it came by, as trace fields say it."""
        context = self.context
        return trace.protocol(self.esmtp, context.tls, context.account is not None, self.mail.utf8)

    @property
    def submitted(self) -> bool:
        """Whether it is of our own people, and ours to complete."""
        return self.context.may_relay and (self.context.submission or self.context.account is not None)

    def whole(self) -> bytes:
        """All of it, as it is stored and delivered."""
        return b"".join([self.front, self.header, b"\r\n", *self.body])


Step = Callable[[IncomingMessage, ReceptionState], Awaitable[Stored | Refusal | None]]


async def receive(message: IncomingMessage, state: ReceptionState) -> Stored | Refusal:
    """Have the message stored, synced. The first step that has an answer ends it."""
    for step in STEPS:
        if answer := await step(message, state):
            break
    else:
        raise AssertionError("the last step stores")
    if isinstance(answer, Stored):
        for each in message.discarded:
            metrics.DISCARDED.inc()
            who = f"client={message.context.ip} from=<{message.mail.sender}> to=<{each.address}>"
            log(f"discarded {who} rule={each.rule!r} size={message.size}")
    return answer


async def split(message: IncomingMessage, state: ReceptionState) -> Refusal | None:
    """Settle where the header ends: all that follows goes by that."""
    try:
        message.header, message.body = header.settle(message.body)
    except header.HeaderTooLarge:
        return LONG_HEADER
    return None


async def judge(message: IncomingMessage, state: ReceptionState) -> Refusal | None:
    """The rules about whole messages."""
    context = message.context
    context.size = message.size
    context.hops = header.hops(message.header)
    context.foreign_sender = ""
    if (account := context.account) and context.settings.server.sender_must_match:
        context.foreign_sender = submission.foreign_sender(
            message.header, lambda address: state.router.owns(account, Address(address))
        )
    return chains.first(chains.MESSAGE, context)


async def throw_away(message: IncomingMessage, state: ReceptionState) -> Stored | None:
    """Where rules discard it for every recipient there is nothing to store."""
    return None if message.recipients else Stored(None)


async def strip(message: IncomingMessage, state: ReceptionState) -> None:
    """What nobody may read, or believe, goes."""
    host = message.context.settings.server.hostname
    message.header = results.without_forged(message.header, host)
    if message.submitted:
        message.header = header.without(message.header, submission.PRIVATE)


async def complete(message: IncomingMessage, state: ReceptionState) -> None:
    """What a submission lacks is added (RFC 6409 §8)."""
    if not message.submitted:
        return
    server, key, context = message.context.settings.server, state.key, message.context
    account = state.reader.account(context.account) if context.account else None
    sender = message.mail.sender or (account.address if account else "")
    added = submission.missing(message.header, sender, f"{uuid4().hex}@{server.hostname}", message.now)
    url = server.bulk.unsubscribe if message.context.bulk and server.bulk else None
    if url and key and len(message.recipients) == 1:
        added += submission.one_click(
            message.header, url, key, message.mail.sender, message.recipients[0].address
        )
    message.front = added


async def sign(message: IncomingMessage, state: ReceptionState) -> None:
    """DKIM, by the domain of From, where that is the sender's own or the client is trusted."""
    if not message.context.may_relay:
        return
    signed = message.front + message.header
    if (name := submission.domain_of_sender(signed)) is None:
        return
    domain, account = state.reader.domain(DomainName(name)), message.context.account
    if domain is None or (account and account.partition("/")[0] != str(domain.number)):
        return
    owner = state.reader.domain(domain.users_of) if domain.users_of else domain
    if owner is None or not owner.dkim:
        return
    work = (signed, message.body, name, owner.dkim, message.now)
    try:
        if message.size > LARGE:
            made = await asyncio.to_thread(dkim.sign, *work)
        else:
            made = dkim.sign(*work)
    except ValueError as error:
        log(f"not signed domain={name} {error}")
        return
    metrics.SIGNED.inc()
    message.front = made + message.front


async def add_trace(message: IncomingMessage, state: ReceptionState) -> None:
    """Say by which way it came (RFC 5321 §4.4)."""
    context = message.context
    host = context.settings.server.hostname
    to = message.recipients[0].address if len(message.recipients) == 1 else None
    received = trace.received(context.helo, context.ip, host, message.protocol, to, message.now)
    message.front = received + message.front


async def seal_forward(message: IncomingMessage, state: ReceptionState) -> None:
    """ARC for a stranger's message that an address of ours leads to another server."""
    if message.context.may_relay or message.size > LARGE:
        return
    for recipient in message.recipients:
        if not recipient.route.remote:
            continue
        name = DomainName(recipient.address.rpartition("@")[2])
        if (domain := state.reader.domain(name)) is None:
            continue
        owner = state.reader.domain(domain.users_of) if domain.users_of else domain
        key = next((key for key in owner.dkim if key.algorithm == "rsa"), None) if owner else None
        if key is None:
            return
        host, texts = message.context.settings.server.hostname, state.names.texts
        try:
            made = await seal(message.header, message.body, host, name, key, texts, message.now)
        except (TimeoutError, NoAnswer, ValueError) as error:
            log(f"not sealed to=<{recipient.address}> {error!r}")
            return
        metrics.SEALED.inc(bool(made))
        message.front = made + message.front
        return


async def store(message: IncomingMessage, state: ReceptionState) -> Stored | Refusal:
    """On disk, synced."""
    context, began = message.context, state.loop.time()
    whole = await asyncio.to_thread(message.whole) if message.size > LARGE else message.whole()
    envelope = Envelope(
        sender=message.mail.sender,
        recipients=tuple(Recipient(each.address) for each in message.recipients),
        received_at=message.now,
        client_ip=context.ip,
        helo=context.helo,
        protocol=message.protocol,
        account=context.account,
        smtputf8=message.mail.utf8,
        body_8bit=message.mail.eight_bit,
        campaign=submission.campaign(message.header) if context.bulk else "",
    )
    message.body.clear()
    try:
        id = await state.spool.accept(envelope, whole)
    except SpoolFull:
        return FULL
    except SpoolBusy:
        return BUSY
    except SpoolClosed:
        return CLOSED
    metrics.ACCEPTED.inc()
    metrics.ACCEPTED_BYTES.inc(message.size)
    metrics.COMMIT.observe(state.loop.time() - began)
    account = f" account={context.account}" if context.account else ""
    who = f"client={context.ip}{account} protocol={envelope.protocol} from=<{envelope.sender}>"
    log(f"accepted id={id} {who} recipients={len(message.recipients)} size={message.size}")
    return Stored(id)


STEPS: tuple[Step, ...] = (split, judge, throw_away, strip, complete, sign, add_trace, seal_forward, store)
