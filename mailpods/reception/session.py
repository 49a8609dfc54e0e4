"""One client's session: carries out what its commands ask for, if the rules let it, and replies."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mailpods.reception import recipients, replies, sender
from mailpods.reception.incoming import IncomingText
from mailpods.reception.login import log_in
from mailpods.reception.receive import IncomingMessage, receive
from mailpods.reception.recipients import Discarded, Taken, Verdict
from mailpods.reception.state import ReceptionState, log
from mailpods.refusal import Refusal
from mailpods.rules import chains
from mailpods.rules.context import PolicyContext
from mailpods.rules.settings import Settings
from mailpods.smtp import machine, metrics
from mailpods.smtp.connection import Connection
from mailpods.smtp.content import Chunk, MessageContent
from mailpods.smtp.listeners import Listener
from mailpods.smtp.machine import OK, Machine
from mailpods.smtp.sasl import Challenge, Credentials, Exchange, Step

MAX_MISUSE = 20  # broken commands in one connection
MAX_REFUSALS = 200  # refused recipients and senders in one connection: no harvest of addresses
MAX_FAILED_LOGINS = 3  # in one connection


class Session(Connection):
    """On one of the listeners. `ip` is the client's, as a PROXY header told it if one came."""

    context: PolicyContext

    def __init__(
        self, state: ReceptionState, listener: Listener, ip: str | None = None, tls: bool = False
    ) -> None:
        super().__init__(state.loop)
        self.state = state
        self.listener = listener
        self.ip = ip or ""
        self.machine = Machine(tls)
        self._taken: list[Taken] = []  # recipients of the transaction
        self._discarded: list[Discarded] = []
        self._incoming: IncomingText | None = None
        self._unwanted: machine.ReadChunk | None = None  # is being read
        self._misuse = self._refusals = self._failed_logins = 0
        self._entered = False

    # --- the connection's life

    def opened(self) -> None:
        """Greet, or say why not."""
        state, settings = self.state, self.state.settings
        assert self.transport is not None
        if not self.ip:
            peer = self.transport.get_extra_info("peername")
            self.ip = peer[0].removeprefix("::ffff:") if peer else ""
        if settings is None or state.draining:
            self.reply(replies.NOT_READY)
            self.hang_up()
            return
        limits = state.connection_limits
        self.context = PolicyContext(
            settings,
            self.ip,
            settings.is_lan(self.ip),
            settings.is_trusted(self.ip),
            self.listener.submission,
            self.listener.bulk,
            connections=limits.enter(self.ip),
            rate=limits.arrive(self.ip) if settings.server.screening.rate_per_minute else 0,
            tls=self.machine.tls,
        )
        self._entered = True
        metrics.CONNECTIONS.labels(self.listener.name).inc()
        refusal = chains.first(chains.CONNECTION, self.context)
        if not refusal and not state.sessions.add(self):
            refusal = replies.CROWDED
        if refusal:
            self.refuse(refusal)
        elif self._waits_for_greeting(settings):
            self.suspend(self._greet_late(settings))
        else:
            self.reply(settings.greeting)

    def _waits_for_greeting(self, settings: Settings) -> bool:
        stranger = not (self.listener.submission or self.context.may_relay)
        return stranger and settings.server.screening.early_talkers

    async def _greet_late(self, settings: Settings) -> None:
        """Greet after a pause, those that waited for it (R-003-25)."""
        await asyncio.sleep(self.state.timeouts.greeting)
        if self.spoke:
            self.refuse(replies.EARLY_TALKER)
        else:
            self.reply(settings.greeting)

    def closed(self) -> None:
        """Forget the client."""
        if self._entered:
            self._entered = False
            self.state.connection_limits.leave(self.ip)
        self._reset()
        self.state.sessions.remove(self)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the connection ended now."""
        return not (self.suspended or self.receiving or self.machine.mail)

    @property
    def is_idle_stranger(self) -> bool:
        """Idle, and nobody who logged in."""
        return self.is_idle and self.context.account is None

    def turn_away(self) -> None:
        """Make room for another client."""
        self.refuse(replies.CROWDED)

    def say_goodbye(self) -> None:
        """The program stops."""
        self.reply(replies.SHUTTING_DOWN)
        self.hang_up()

    def look_at_the_clock(self, now: float) -> None:
        """Close if the client takes too long."""
        if self.suspended:
            return
        if self.receiving and self._incoming:
            if self._incoming.ended_in_silence(now, self.active):
                self.end_content()
            elif refusal := self._incoming.late(now, self.active):
                self.refuse(refusal)
                self.hang_up()
        elif now - self.active > self.state.timeouts.command:
            self.refuse(replies.TIMEOUT)

    # --- replies that refuse

    def refuse(self, refusal: Refusal) -> None:
        """Give the reply, count it and log it."""
        metrics.REJECTS.labels(refusal.reason).inc()
        self._refusals += refusal.code >= 500  # what is put off tells nobody which addresses there are
        mail = self.machine.mail
        by = f" from=<{mail.sender}>" if mail else ""
        to = f" to=<{self.context.recipient}>" if mail and self.context.recipient else ""
        rule = f" rule={refusal.rule!r}" if refusal.rule else ""
        log(f"refused client={self.ip}{by}{to} reason={refusal.reason}{rule} code={refusal.code}")
        self.reply(refusal.line)
        if refusal.closes:
            self.hang_up()
        elif self._refusals >= MAX_REFUSALS:
            self._too_many_errors()

    def misuse(self, reply: bytes, reason: str) -> None:
        """The client broke the protocol; after some patience it has to go."""
        metrics.REJECTS.labels(reason).inc()
        self._misuse += 1
        self.reply(reply)
        if self._misuse >= MAX_MISUSE:
            self._too_many_errors()

    def _too_many_errors(self) -> None:
        log(f"refused client={self.ip} reason=too-many-errors code=421")
        self.reply(replies.TOO_MANY_ERRORS)
        self.hang_up()

    def fault(self, error: Exception) -> bytes:
        """Log and count it; the transaction is over."""
        id = self.state.fault(error, f"client={self.ip}")
        self._reset()
        return f"451 4.3.0 Something failed here, try again (id {id})\r\n".encode()

    # --- commands

    def command(self, verb: str, argument: str) -> None:
        """Have the machine say what it asks for, and carry that out."""
        if self.more and self._speaks_too_early(verb):
            self.refuse(replies.EARLY_PIPELINING)
            return
        action = self.machine.command(verb, argument)
        _CARRY_OUT[type(action)](self, action)

    def _speaks_too_early(self, verb: str) -> bool:
        """R-003-27: without ESMTP each command waits for the answer to the one before."""
        context = self.context
        refused = context.settings.server.screening.early_pipelining and not context.may_relay
        return refused and (verb in machine.LAST_OF_GROUP or not self.machine.esmtp)

    def _say(self, action: machine.Say) -> None:
        self.reply(action.reply)

    def _misused(self, action: machine.Misuse) -> None:
        self.misuse(action.reply, action.reason)

    def _hang_up(self, action: machine.HangUp) -> None:
        if action.reason:
            self.misuse(action.reply, action.reason)
        else:
            self.reply(action.reply)
        self.hang_up()

    def _hello(self, action: machine.Hello) -> None:
        self._reset()
        self.machine.said_hello(action.esmtp)
        self.context.helo, self.context.helo_known = action.name, "unasked"
        settings = self._adopt()
        if not action.esmtp:
            self.reply(f"250 {settings.server.hostname}\r\n".encode())
        else:
            tls = self.machine.tls
            starttls = not tls and self.state.certificate.context is not None
            self.reply(settings.ehlo(starttls, auth=tls or not settings.server.tls_required))

    def _mail(self, action: machine.Mail) -> None:
        if self.state.draining:
            self.say_goodbye()
            return
        self._adopt()
        if refusal := sender.judge(self.state, self.context, action.sender, action.size):
            self.refuse(refusal)
            return
        self.machine.began(action)
        self.reply(replies.SENDER_OK)

    def _rcpt(self, action: machine.Rcpt) -> None:
        verdict = recipients.judge(self.state, self.context, action.address)
        if isinstance(verdict, Coroutine):
            self.suspend(self._rcpt_later(verdict))
        else:
            self._decide(verdict)

    async def _rcpt_later(self, asking: recipients.Asking) -> None:
        self._decide(await asking)

    def _decide(self, verdict: Verdict) -> None:
        if isinstance(verdict, Refusal):
            self.refuse(verdict)
            return
        if isinstance(verdict, Taken):
            self._taken.append(verdict)
        else:
            self._discarded.append(verdict)
        self.context.recipients += 1
        self.machine.took_recipient()
        self.reply(replies.RECIPIENT_OK)

    # --- message text

    def _read_data(self, action: machine.ReadData) -> None:
        self.reply(replies.GO_AHEAD)
        self._incoming = IncomingText(self.state, self.context, self.active)
        self.take_content(self._incoming.data)

    def _read_chunk(self, action: machine.ReadChunk) -> None:
        content = MessageContent(0)  # nothing of what nobody wants is kept
        if action.refusal:
            self._unwanted = action
        else:
            if self._incoming is None:
                self._incoming = IncomingText(self.state, self.context, self.active)
            self._incoming.chunk = action
            content = self._incoming.content
        if action.octets:
            self.take_content(Chunk(content, action.octets))
        else:
            self.content_ended()

    def data_received(self, data: bytes) -> None:
        """Beside taking them in, count the bytes of messages that are under way."""
        super().data_received(data)
        if self._incoming and self.receiving:
            self._incoming.count()

    def content_ended(self) -> None:
        """All of DATA, or of one BDAT, is here."""
        unwanted, incoming = self._unwanted, self._incoming
        if unwanted and unwanted.refusal:
            self._unwanted = None
            self.misuse(unwanted.refusal.reply, unwanted.refusal.reason)
            return
        assert incoming is not None
        if not incoming.complete and not incoming.hopeless():
            self.reply(f"250 2.0.0 {incoming.content.size} octets received\r\n".encode())
            return
        incoming.content.end()
        if refusal := incoming.hopeless():
            self._reset()
            self.refuse(refusal)
        else:
            self.suspend(self._receive(incoming.content))

    async def _receive(self, content: MessageContent) -> None:
        mail = self.machine.mail
        assert mail is not None
        to, discarded, esmtp = tuple(self._taken), tuple(self._discarded), self.machine.esmtp
        message = IncomingMessage(self.context, mail, to, discarded, esmtp, content.size, content.pieces)
        answer = await receive(message, self.state)
        self._reset()
        if isinstance(answer, Refusal):
            self.refuse(answer)
        else:  # where all was thrown away, as if it had been taken: nobody learns of the rule
            self.reply(f"250 2.0.0 Ok: queued as {answer.id}\r\n".encode() if answer.id else OK)

    def _reset(self) -> None:
        """No transaction is under way any more."""
        self.machine.reset()
        self._taken, self._discarded = [], []
        self._unwanted = None
        if self._incoming:
            self._incoming.release()
            self._incoming = None

    # --- the other commands

    def _forget(self, action: machine.Reset) -> None:
        self._reset()
        self.reply(OK)

    def _verify(self, action: machine.Verify) -> None:
        if self.context.settings.server.screening.vrfy_off:
            self.reply(replies.NO_VERIFYING)
        else:
            self.reply(replies.NOT_VERIFIED)

    def _start_tls(self, action: machine.StartTls) -> None:
        if self.state.certificate.context is None:
            self.reply(replies.NO_TLS_NOW)
            return
        self.reply(replies.READY_FOR_TLS)
        self.stop_listening()
        self.suspend(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            await self.start_tls(self.state.certificate.context, self.state.timeouts.handshake)
        except (OSError, TimeoutError) as error:
            log(f"handshake failed client={self.ip} {error}")
            self.hang_up()
            return
        self._reset()
        self.machine.started_tls()
        self.context.tls = True
        self.context.helo, self.context.account = "", None

    def _adopt(self) -> Settings:
        """Follow the directory: a transaction goes by the settings it began with."""
        settings = self.state.settings or self.context.settings
        if settings is not self.context.settings:
            self.context.settings = settings
            self.context.lan = settings.is_lan(self.ip)
            self.context.trusted = settings.is_trusted(self.ip)
        return settings

    # --- logins

    def _login(self, action: machine.Authenticate) -> None:
        if self.context.settings.server.tls_required and not self.machine.tls:
            self.refuse(replies.NEEDS_TLS)
            return
        exchange = Exchange(action.argument)
        self._next(exchange, exchange.begin())

    def _next(self, exchange: Exchange, step: Step) -> None:
        if isinstance(step, Challenge):
            self.reply(step.reply)
            self.expect(lambda line: self._next(exchange, exchange.answer(line)))
        elif isinstance(step, Credentials):
            self.suspend(self._check(step))
        elif step.reason:
            self.misuse(step.reply, step.reason)
        else:
            self.reply(step.reply)

    async def _check(self, given: Credentials) -> None:
        answer = await log_in(self.state, self.ip, self.machine.tls, given)
        if isinstance(answer, Refusal):
            self._failed_logins += answer is replies.WRONG_LOGIN
            self.refuse(replies.TOO_MANY_LOGINS if self._failed_logins >= MAX_FAILED_LOGINS else answer)
            return
        self.context.account = answer
        self.machine.authenticated = True
        self.reply(replies.LOGGED_IN)


# For each action that the machine may ask for, what carries it out.
_CARRY_OUT: dict[type, Callable[[Session, Any], None]] = {
    machine.Say: Session._say,
    machine.Misuse: Session._misused,
    machine.HangUp: Session._hang_up,
    machine.Hello: Session._hello,
    machine.Mail: Session._mail,
    machine.Rcpt: Session._rcpt,
    machine.ReadData: Session._read_data,
    machine.ReadChunk: Session._read_chunk,
    machine.Authenticate: Session._login,
    machine.StartTls: Session._start_tls,
    machine.Verify: Session._verify,
    machine.Reset: Session._forget,
}
