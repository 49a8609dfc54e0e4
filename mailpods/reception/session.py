"""One client's dialogue: what each command means, in which order, and which rules it must pass."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.reception.login import LoginDialogue
from mailpods.reception.receive import Submitted, submit
from mailpods.reception.state import Hub, log
from mailpods.refusal import Refusal
from mailpods.routing.router import Routed
from mailpods.rules import chains, lookups
from mailpods.rules.chains import Facts
from mailpods.rules.settings import Settings
from mailpods.smtp import metrics
from mailpods.smtp.connection import Connection
from mailpods.smtp.content import Chunk, Data, Text
from mailpods.smtp.grammar import Malformed, Path, parse
from mailpods.smtp.listeners import Listener
from mailpods.spool.message import Recipient

MAX_MISUSE = 20  # broken commands in one connection
MAX_REFUSALS = 200  # refused recipients and senders in one connection: no harvest of addresses

OK = b"250 2.0.0 Ok\r\n"
SENDER_OK = b"250 2.1.0 Ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Ok\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
SHUTTING_DOWN = b"421 4.3.2 Shutting down, try again\r\n"
BUSY = Refusal(452, "4.3.1", "Too much mail at once, try again", "busy")
NO_RECIPIENTS = b"554 5.5.1 No valid recipients\r\n"
NO_TRANSACTION = b"503 5.5.1 MAIL first\r\n"
EARLY_TALKER = Refusal(554, "5.5.1", "You spoke before the greeting", "early-talker", True)
EARLY_PIPELINING = Refusal(503, "5.5.1", "Wait for the answer to your command", "early-pipelining", True)
# The last commands of a group (RFC 2920 §3.1): what stands behind them was sent before its turn.
LAST = frozenset(("HELO", "EHLO", "DATA", "VRFY", "AUTH", "STARTTLS", "NOOP", "QUIT"))


@dataclass(slots=True)
class Transaction:
    """What MAIL began."""

    sender: str
    utf8: bool = False
    eight_bit: bool = False
    recipients: list[Recipient] = field(default_factory=list)
    discarded: list[tuple[Address, str]] = field(default_factory=list)  # and the name of the rule
    text: Text | None = None  # of BDAT, which comes in several commands


class Session(Connection):
    """A dialogue on one of the listeners. `ip` is the client's, as a PROXY header told it if one came."""

    def __init__(self, hub: Hub, listener: Listener, ip: str | None = None, tls: bool = False) -> None:
        super().__init__(hub.loop)
        self.hub = hub
        self.listener = listener
        self.ip = ip or ""
        self.esmtp = False
        self.tls = tls
        self.facts: Facts
        self.login = LoginDialogue(self)
        self.transaction: Transaction | None = None
        self._text: Text | None = None  # being received
        self._last_chunk = True
        self._began = 0.0  # when the message text began
        self._counted = 0  # its bytes, as the hub counts them
        self._misuse = 0
        self._refusals = 0
        self._entered = False

    # --- the connection's life

    def opened(self) -> None:
        """Greet, or say why not."""
        hub, settings = self.hub, self.hub.settings
        assert self.transport is not None
        if not self.ip:
            peer = self.transport.get_extra_info("peername")
            self.ip = peer[0].removeprefix("::ffff:") if peer else ""
        if settings is None or hub.draining:
            self.reply(b"421 4.3.2 Not ready, try again\r\n")
            self.hang_up()
            return
        self.facts = Facts(
            settings,
            self.ip,
            settings.is_lan(self.ip),
            settings.is_trusted(self.ip),
            self.listener.submission,
            self.listener.bulk,
            connections=hub.clients.enter(self.ip),
            rate=hub.clients.arrive(self.ip) if settings.server.screening.rate_per_minute else 0,
            tls=self.tls,
        )
        self._entered = True
        metrics.CONNECTIONS.labels(self.listener.name).inc()
        refusal = chains.first(chains.CONNECTION, self.facts)
        if not refusal and not hub.add(self):
            refusal = Refusal(421, "4.3.2", "Too many connections", "connections", True)
        if refusal:
            self.refuse(refusal)
        elif self._waits_for_greeting(settings):
            self.suspend(self._greet_late(settings))
        else:
            self.reply(settings.greeting)

    def _waits_for_greeting(self, settings: Settings) -> bool:
        stranger = not (self.listener.submission or self.facts.may_relay)
        return stranger and settings.server.screening.early_talkers

    async def _greet_late(self, settings: Settings) -> None:
        """Greet after a pause, those that waited for it (R-003-25)."""
        await asyncio.sleep(self.hub.patience.greeting)
        if self.spoke:
            self.refuse(EARLY_TALKER)
        else:
            self.reply(settings.greeting)

    def closed(self) -> None:
        """Forget the client."""
        if self._entered:
            self._entered = False
            self.hub.clients.leave(self.ip)
        self._drop_text()
        self.transaction = None
        self.hub.remove(self)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the connection ended now."""
        return not (self.suspended or self.receiving or self.transaction)

    @property
    def is_idle_stranger(self) -> bool:
        """Idle, and nobody who logged in."""
        return self.is_idle and self.facts.account is None

    def turn_away(self) -> None:
        """Make room for another client."""
        self.refuse(Refusal(421, "4.3.2", "Too many connections", "connections", True))

    def say_goodbye(self) -> None:
        """The program stops."""
        self.reply(SHUTTING_DOWN)
        self.hang_up()

    def look_at_the_clock(self, now: float) -> None:
        """Close if the client takes too long."""
        patience, text = self.hub.patience, self._text
        if self.suspended:
            return
        if not self.receiving or text is None:
            late = now - self.active > patience.command
        else:
            limit = self.facts.settings.server.max_message_bytes
            failed = text.problem or (text.size > limit and chains.size(self._sized(text)))
            if failed and now - self.active > patience.refused:
                self._refused(failed)
                self.hang_up()
                return
            late = now - self.active > patience.data or now - self._began > patience.message(limit)
        if late:
            self.refuse(Refusal(421, "4.4.2", "Timeout", "timeout", True))

    # --- replies that refuse

    def refuse(self, refusal: Refusal) -> None:
        """Give the reply, count it and log it."""
        self._refused(refusal)
        if refusal.closes or self._refusals >= MAX_REFUSALS:
            self.hang_up()

    def _refused(self, refusal: Refusal) -> None:
        metrics.REJECTS.labels(refusal.reason).inc()
        self._refusals += 1
        sender = f" from=<{self.transaction.sender}>" if self.transaction else ""
        to = f" to=<{self.facts.recipient}>" if self.transaction and self.facts.recipient else ""
        rule = f" rule={refusal.rule!r}" if refusal.rule else ""
        log(f"refused client={self.ip}{sender}{to} reason={refusal.reason}{rule} code={refusal.code}")
        self.reply(refusal.line)

    def misuse(self, reply: bytes, reason: str) -> None:
        """The client broke the protocol; after some patience it has to go."""
        metrics.REJECTS.labels(reason).inc()
        self._misuse += 1
        self.reply(reply)
        if self._misuse >= MAX_MISUSE:
            log(f"refused client={self.ip} reason=too-many-errors code=421")
            self.reply(b"421 4.7.0 Too many errors\r\n")
            self.hang_up()

    # --- commands

    def command(self, verb: str, argument: str) -> None:
        """Dispatch."""
        handler = COMMANDS.get(verb)
        if self.more and self._speaks_too_early(verb):
            self.refuse(EARLY_PIPELINING)
        elif handler:
            handler(self, argument)
        else:
            self.misuse(b"500 5.5.1 Command unknown\r\n", "unknown-command")

    def _speaks_too_early(self, verb: str) -> bool:
        """R-003-27: without ESMTP each command waits for the answer to the one before."""
        facts = self.facts
        refused = facts.settings.server.screening.early_pipelining and not facts.may_relay
        return refused and (verb in LAST or not self.esmtp)

    def _helo(self, argument: str) -> None:
        self._hello(argument, esmtp=False)

    def _ehlo(self, argument: str) -> None:
        self._hello(argument, esmtp=True)

    def _hello(self, argument: str, esmtp: bool) -> None:
        if not argument or not argument.isprintable() or " " in argument:
            self.misuse(b"501 5.5.4 Say your host name\r\n", "syntax")
            return
        self._reset()
        settings = self.hub.settings or self.facts.settings
        self.esmtp = esmtp
        self.facts.helo, self.facts.helo_known = argument, "unasked"
        self._adopt(settings)
        if not esmtp:
            self.reply(f"250 {settings.server.hostname}\r\n".encode())
        else:
            starttls = not self.tls and self.hub.certificate.context is not None
            self.reply(settings.ehlo(starttls, auth=self.tls or not settings.server.tls_required))

    def _mail(self, argument: str) -> None:
        if self.transaction:
            self.misuse(b"503 5.5.1 MAIL was said already\r\n", "sequence")
            return
        if self.hub.draining:
            self.say_goodbye()
            return
        if self.hub.settings:
            self._adopt(self.hub.settings)
        try:
            path = parse("FROM:", argument)
            transaction = self._begun(path)
        except Malformed as error:
            self.misuse(f"{error}\r\n".encode(), "syntax")
            return
        facts = self.facts
        facts.sender, facts.sender_known = path.address, "unasked"
        facts.recipient, facts.recipients = "", 0
        if facts.bulk and facts.account:
            facts.bulk_allowed = self._may_mail_in_bulk(facts.account)
        if facts.account and path.address and facts.settings.server.sender_must_match:
            facts.sender_is_own = self.hub.router.owns(facts.account, Address(path.address.lower()))
        else:
            facts.sender_is_own = True
        if refusal := chains.first(chains.MAIL, facts):
            self.refuse(refusal)
            return
        self.transaction = transaction
        self.reply(SENDER_OK)

    def _may_mail_in_bulk(self, account: AccountId) -> bool:
        known = self.hub.reader.account(account)
        domain = self.hub.reader.domain(DomainName(known.address.rpartition("@")[2])) if known else None
        return domain is None or domain.bulk

    def _begun(self, path: Path) -> Transaction:
        """The transaction that MAIL's parameters ask for. Raises Malformed."""
        transaction = Transaction(path.address)
        self.facts.size = 0
        if path.parameters and not self.esmtp:
            raise Malformed("555 5.5.4 Parameters need EHLO")
        for name, value in path.parameters.items():
            if name == "SIZE":
                if not (value.isdecimal() and len(value) <= 20):
                    raise Malformed("501 5.5.4 SIZE is a number of bytes")
                self.facts.size = int(value)
            elif name == "BODY" and value.upper() in ("7BIT", "8BITMIME"):
                transaction.eight_bit = value.upper() == "8BITMIME"
            elif name == "SMTPUTF8" and not value:
                transaction.utf8 = True
            elif name == "AUTH" and value:
                pass  # RFC 4954 §5: to be understood; nobody is trusted to vouch for another
            else:
                raise Malformed(f"555 5.5.4 {name} is not understood")
        if not path.address.isascii() and not transaction.utf8:
            raise Malformed("553 5.6.7 Non-ASCII address without SMTPUTF8")
        if path.address == "postmaster":
            raise Malformed("501 5.1.7 The sender needs a domain")
        return transaction

    def _rcpt(self, argument: str) -> None:
        transaction = self.transaction
        if not transaction:
            self.misuse(NO_TRANSACTION, "sequence")
            return
        try:
            path = parse("TO:", argument)
            if not path.address:
                raise Malformed("501 5.1.3 A recipient needs an address")
            if path.parameters:
                raise Malformed(f"555 5.5.4 {next(iter(path.parameters))} is not understood")
            if not path.address.isascii() and not transaction.utf8:
                raise Malformed("553 5.6.7 Non-ASCII address without SMTPUTF8")
        except Malformed as error:
            self.misuse(f"{error}\r\n".encode(), "syntax")
            return
        facts = self.facts
        given = path.address if "@" in path.address else f"postmaster@{facts.settings.server.hostname}"
        address = Address(given.lower())
        facts.recipient = address
        if not lookups.is_complete(facts):
            self.suspend(self._rcpt_with_names(transaction, address))
        elif asking := self._judge(transaction, address):
            self.suspend(asking)

    async def _rcpt_with_names(self, transaction: Transaction, address: Address) -> None:
        await lookups.look_up(self.facts, self.hub.names)
        if asking := self._judge(transaction, address):
            await asking

    def _judge(self, transaction: Transaction, address: Address) -> Coroutine[Any, Any, None] | None:
        """Take a recipient, or not; returns what must still be asked before that is decided."""
        facts = self.facts
        lookups.consult_lists(facts)
        if facts.bulk and self.hub.suppressions:
            facts.suppressed = self.hub.suppressions.reason(facts.sender.rpartition("@")[2], address)
        outcome = facts.outcome = self.hub.router.route(address, facts.may_relay)
        if refusal := chains.first(chains.RECIPIENT, facts):
            self.refuse(refusal)
        elif facts.listed and facts.listed.action == "discard":
            transaction.discarded.append((address, facts.listed.name))
            facts.recipients += 1
            self.reply(RECIPIENT_OK)
        elif isinstance(outcome, Routed) and self._has_quota(outcome):
            return self._rcpt_with_quota(transaction, address, outcome)
        else:
            self._take(transaction, address)
        return None

    def _take(self, transaction: Transaction, address: Address) -> None:
        transaction.recipients.append(Recipient(address))
        self.facts.recipients += 1
        self.reply(RECIPIENT_OK)

    def _has_quota(self, outcome: Routed) -> bool:
        """Whether every copy goes to a mailbox with a quota: where one has room for sure, nobody is asked."""
        if outcome.remote or len(outcome.accounts) > 4:
            return False
        accounts = [self.hub.reader.account(account) for account in outcome.accounts]
        return bool(accounts) and all(account and account.quota is not None for account in accounts)

    async def _rcpt_with_quota(self, transaction: Transaction, address: Address, outcome: Routed) -> None:
        shards = self.facts.settings.server.shards
        full = True
        for id in outcome.accounts:
            account = self.hub.reader.account(id)
            if account and account.shard < len(shards):
                full = await self.hub.quota.full(shards[account.shard].quota, id, self.facts.size)
            else:
                full = False
            if not full:
                break
        self.facts.over_quota = full
        if refusal := chains.first(chains.QUOTA, self.facts):
            self.refuse(refusal)
        else:
            self._take(transaction, address)

    def _data(self, argument: str) -> None:
        transaction = self.transaction
        if not transaction or transaction.text:
            self.misuse(NO_TRANSACTION, "sequence")
        elif argument:
            self.misuse(b"501 5.5.4 DATA takes no argument\r\n", "syntax")
        elif not (transaction.recipients or transaction.discarded):
            self.misuse(NO_RECIPIENTS, "sequence")
        elif self.hub.receiving > self.hub.max_receiving:
            self.refuse(BUSY)
        else:
            self.reply(GO_AHEAD)
            data = Data(self.facts.settings.server.max_message_bytes)
            self._text, self._last_chunk = data.text, True
            self._began = self.active
            self.take_content(data)

    def _bdat(self, argument: str) -> None:
        words = argument.upper().split()
        if not words or not words[0].isdecimal() or len(words[0]) > 20 or words[1:] not in ([], ["LAST"]):
            self.misuse(b"501 5.5.4 Syntax: BDAT octets [LAST]\r\n", "syntax")
            self.hang_up()  # how much text follows cannot be known
            return
        transaction, octets = self.transaction, int(words[0])
        limit = self.facts.settings.server.max_message_bytes
        if transaction and transaction.text is None and (transaction.recipients or transaction.discarded):
            transaction.text = Text(limit)
            self._began = self.active
        # A chunk that nobody wants comes all the same (RFC 3030 §2): it is read, and thrown away.
        self._text = transaction.text if transaction and transaction.text else Text(0)
        self._last_chunk = len(words) > 1
        if octets:
            self.take_content(Chunk(self._text, octets))
        else:
            self.content_ended()

    # --- message text

    def data_received(self, data: bytes) -> None:
        """Beside taking them in, count the bytes of messages that are under way."""
        super().data_received(data)
        if self.receiving and self._text is not None:
            self._count(self._text.size)

    def _count(self, size: int) -> None:
        self.hub.receiving += size - self._counted
        self._counted = size
        if self.hub.receiving > 2 * self.hub.max_receiving and self._text and not self._text.problem:
            self._text.fail(BUSY)

    def release(self) -> None:
        """The message is out of this session's hands."""
        self._drop_text()

    def _drop_text(self) -> None:
        self._text = None
        self.hub.receiving -= self._counted
        self._counted = 0

    def _sized(self, text: Text) -> Facts:
        self.facts.size = text.size
        return self.facts

    def content_ended(self) -> None:
        """All of DATA, or of one BDAT, is here."""
        text, transaction = self._text, self.transaction
        assert text is not None
        if not transaction or not (transaction.recipients or transaction.discarded):
            self._drop_text()
            self.misuse(NO_RECIPIENTS if transaction else NO_TRANSACTION, "sequence")
            return
        if not self._last_chunk and not text.problem and not chains.size(self._sized(text)):
            self.reply(f"250 2.0.0 {text.size} octets received\r\n".encode())
            return
        text.end()
        facts = self._sized(text)
        submitted = Submitted(self, transaction.sender, tuple(transaction.recipients), transaction.utf8,
                              transaction.eight_bit, text)  # fmt: skip
        refusal = text.problem or submitted.refusal(facts)
        self.transaction = None
        if refusal:
            self._drop_text()
            self.refuse(refusal)
            return
        for address, rule in transaction.discarded:
            metrics.DISCARDED.inc()
            sender = f"from=<{transaction.sender}>"
            log(f"discarded client={self.ip} {sender} to=<{address}> rule={rule!r} size={text.size}")
        if transaction.recipients:
            self.suspend(submit(submitted))
        else:
            self._drop_text()
            self.reply(OK)  # as if it had been taken: nobody learns of the rule

    def _reset(self) -> None:
        self.transaction = None
        self._drop_text()

    # --- the other commands

    def _rset(self, argument: str) -> None:
        self._reset()
        self.reply(OK)

    def _noop(self, argument: str) -> None:
        self.reply(OK)

    def _help(self, argument: str) -> None:
        self.reply(f"214 2.0.0 {' '.join(sorted(COMMANDS))}\r\n".encode())

    def _vrfy(self, argument: str) -> None:
        if self.facts.settings.server.screening.vrfy_off:
            self.reply(b"502 5.5.1 VRFY is off\r\n")
            return
        self.reply(b"252 2.5.2 Send some mail, I will try my best\r\n")

    def _quit(self, argument: str) -> None:
        self.reply(b"221 2.0.0 Bye\r\n")
        self.hang_up()

    def _auth(self, argument: str) -> None:
        self.login.begin(argument)

    def _starttls(self, argument: str) -> None:
        if argument:
            self.misuse(b"501 5.5.4 STARTTLS takes no argument\r\n", "syntax")
        elif self.tls:
            self.misuse(b"503 5.5.1 TLS is on already\r\n", "sequence")
        elif self.hub.certificate.context is None:
            self.reply(b"454 4.7.0 TLS not available now\r\n")
        else:
            self.reply(b"220 2.0.0 Go ahead\r\n")
            self.stop_listening()
            self.suspend(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            await self.start_tls(self.hub.certificate.context, self.hub.patience.handshake)
        except (OSError, TimeoutError) as error:
            log(f"handshake failed client={self.ip} {error}")
            self.hang_up()
            return
        self._reset()
        self.tls = self.facts.tls = True
        self.facts.helo, self.facts.account, self.esmtp = "", None, False

    def _adopt(self, settings: Settings) -> None:
        """Follow the directory: a transaction goes by the settings it began with."""
        if settings is not self.facts.settings:
            self.facts.settings = settings
            self.facts.lan = self.facts.settings.is_lan(self.ip)
            self.facts.trusted = self.facts.settings.is_trusted(self.ip)


COMMANDS: dict[str, Callable[[Session, str], None]] = {
    "HELO": Session._helo,
    "EHLO": Session._ehlo,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "BDAT": Session._bdat,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "HELP": Session._help,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
    "AUTH": Session._auth,
    "STARTTLS": Session._starttls,
}
