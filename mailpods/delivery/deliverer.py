"""Delivers what a spool holds: recipients to destinations, replies to outcomes, failures to notifications.

What waits stays in the spool; here are names of messages, sorted by destination and, within one, by tenant:

spool ─▶ Turns of a destination ─▶ its Lane, as much as it has room for ─▶ replies ─▶ outcomes ─▶ spool

So one that takes nothing, or has very much to take, holds up nobody else.
"""

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter as Counted

from mailpods.delivery import dsn, metrics, returns, verdicts, ways
from mailpods.delivery.ahead import AT_ONCE, FRESH_SECONDS, ReadAhead
from mailpods.delivery.client import Disconnected, Reply
from mailpods.delivery.lane import Job, Lane
from mailpods.delivery.limits import Limits, day_of
from mailpods.delivery.sts import Policies
from mailpods.delivery.tls_reports import TlsReports
from mailpods.delivery.turns import Tenant, Turns
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.dns.resolver import Resolver, Undeliverable
from mailpods.message.srs import Srs
from mailpods.message.verp import Verp
from mailpods.refusal import Refusal
from mailpods.routing import routes
from mailpods.routing.router import Router
from mailpods.spool.message import Envelope, MessageId, Recipient
from mailpods.spool.spool import Cursor, Due, Event, Outcome, Spool, SpoolError
from mailpods.spool.suppression import Suppressions

LIFETIME = 5 * 86400.0  # seconds, RFC 5321 §4.5.4.1
WARNED_AFTER = 4 * 3600.0  # seconds, until a sender hears that a message waits (RFC 3461 §5.2.5)
FIRST_RETRY, LONGEST_RETRY = 30.0, 3600.0  # seconds
MAX_REMOTE = 4000  # messages on their way to other servers at a time
MAX_KEPT = 2000  # fresh messages remembered whole while they wait; others are read when it is their turn
BUSY_CONNECTIONS = 4  # to a destination, from which on its messages are read ahead
MAX_BODIES = 64 << 20  # bytes of bodies kept in memory; others are read again when it is their turn
POLL_SECONDS = 1.0
RECENT_SECONDS, MAX_RECENT = 10.0, 100_000  # that what was found is remembered: longer than a commit takes
READ_AT_ONCE = 2000  # messages, when the spool is read
LOOKUPS_AT_ONCE = 100  # of domains' mail servers
SITE_SECONDS = 600.0  # that a domain is taken to have the same mail servers
MOST_TOLD = 1000  # domains of a site that is left alone, of which people are told
SWEEP_SECONDS = 60.0  # between looks at what is too old, and at what may have been overlooked

Log = Callable[[str], None]
# shard-0, smarthost, smarthost 7/info, rule NAME, the name of a Site, or @example.org until that is known.
Destination = str
NOWHERE: Destination = ""
SUPPRESSED = "on the suppression list"
WAITS = "4.4.1 the destination takes no mail now"


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: twice as long each time, with jitter, an hour at most."""
    return float(min(FIRST_RETRY * 2 ** min(attempts, 20), LONGEST_RETRY) * random.uniform(0.8, 1.2))


@dataclass
class _Parcel:
    """Those recipients of a message that go to one destination, and what it said about each copy."""

    due: Due
    destination: Destination
    targets: dict[Address, list[str]] = field(default_factory=dict)  # recipient -> accounts, addresses
    replies: dict[str, Reply] = field(default_factory=dict)  # target -> reply
    body: bytes | None = None
    reserved: float | None = None  # a limit gives it this time

    @property
    def all_targets(self) -> list[str]:
        """Of all of them, each once."""
        if len(self.targets) == 1:
            return next(iter(self.targets.values()))
        return list(dict.fromkeys(target for targets in self.targets.values() for target in targets))

    @property
    def recipients(self) -> list[Recipient]:
        """Of the message, those that it is about."""
        return [recipient for recipient in self.due.recipients if recipient.address in self.targets]


@dataclass
class _Line:
    """A destination: what waits for it, and how it goes there."""

    lane: Lane
    remote: bool
    delivered: Counted  # copies, for metrics
    resolving: bool = False  # its site is being looked up
    turns: Turns = field(default_factory=Turns)


class Deliverer:
    """Call `start()` within a running loop."""

    def __init__(
        self,
        reader: DirectoryReader,
        spool: Spool,
        dns: Callable[[], Resolver],
        log: Log,
        suppressions: Suppressions | None = None,
        policies: Policies | None = None,
        reports: TlsReports | None = None,
        key: str | None = None,
    ) -> None:
        """`suppressions`: it is one of the bulk pool's, which has limits and an identity of its own, too."""
        self._reader = reader
        self._policies, self._reports = policies, reports
        self._suppressions, self._bulk = suppressions, suppressions is not None
        self._limits = Limits(spool.sent(day_of(time.time())), spool.count)
        self._dns = dns
        self._srs = Srs(key) if key else None
        self._key, self._verp = key, Verp(key) if key else None
        self._router = Router(reader, self._srs)
        self._spool = spool
        self._log = log
        self._lines: dict[Destination, _Line] = {}
        self._active: set[tuple[MessageId, Destination]] = set()  # under way, until their outcome is on disk
        self._again: set[tuple[MessageId, Destination]] = set()  # of those: there is more of it to do
        self._remote = 0  # how many of those go to other servers
        self._sites: dict[DomainName, tuple[ways.Site, float]] = {}  # and until when that is believed
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._starved: OrderedDict[Destination, _Line] = OrderedDict()  # those that wait for MAX_REMOTE
        # Fresh ones that wait, whole, and where they are still to go.
        self._kept: OrderedDict[MessageId, tuple[Due, bytes | None, set[Destination]]] = OrderedDict()
        self._recent: OrderedDict[MessageId, float] = OrderedDict()  # found a moment ago, and when
        self._ahead = ReadAhead(spool)
        self._warned = 0  # number of the last message whose age was looked at
        self._sweeping = False
        self._bodies = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self) -> None:
        """Begin with what the spool holds, and go on with what it takes."""
        self._spool.on_accept = self._fresh
        self._spawn(self._poll())

    async def stop(self, seconds: float) -> None:
        """Let deliveries under way finish, for a while; the rest stays in the spool."""
        self._stopping = True
        end = time.monotonic() + seconds
        while self._active and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(line.lane.close() for line in self._lines.values()))

    def connections(self) -> Counter[str]:
        """How many there are to each destination, by its title."""
        counts: Counter[str] = Counter()
        for destination, line in self._lines.items():
            if line.lane.connections:
                counts[ways.title(destination)] += line.lane.connections
        return counts

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what is due

    def _fresh(self, due: Due, body: bytes) -> None:
        """A message was taken a moment ago."""
        if self._stopping or not self._ready() or due.id in self._recent:
            return  # the reading of the spool finds it, or has found it between its commit and now
        self._recent[due.id] = due.envelope.received_at
        parcels = self._parcels(due)
        waiting: set[Destination] = set()
        for parcel in parcels:
            line = self._line(parcel.destination)
            if line is None or (not line.turns and self._has_room(line)):
                parcel.body = self._keep(body)
                self._send(parcel, line)
            else:
                line.turns.add(self._tenant(parcel), due.id)
                waiting.add(parcel.destination)
        if waiting and len(self._kept) < MAX_KEPT:
            # Half of the room is for those that are on their way, however long others wait.
            self._kept[due.id] = (due, self._keep(body, MAX_BODIES // 2), waiting)

    def _keep(self, body: bytes, limit: int = MAX_BODIES) -> bytes | None:
        """The body, if there is room for it in memory."""
        if self._bodies + len(body) > limit:
            return None
        self._bodies += len(body)
        return body

    async def _poll(self) -> None:
        """Find what is due: after a start, after a put-off, what others wrote into the spool."""
        seen = 0.0  # what was due until then is known
        sweep = time.time() + SWEEP_SECONDS
        while True:
            if self._ready() and not self._stopping:
                now = time.time()
                # A clock that was set back must not keep anything from being found.
                seen = await self._read(min(seen, now), now)
                self._forget_recent(now)
                if now >= sweep and not self._sweeping:
                    sweep, self._sweeping = now + SWEEP_SECONDS, True
                    self._spawn(self._sweep(now))
                for line in list(self._lines.values()):
                    self._pump(line)
            self._forget_idle()
            metrics.ACTIVE.set(len(self._active))
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self, after: float, until: float) -> float:
        """Note what came due in this time; returns `until`. Other work goes on meanwhile."""
        start: Cursor | None = None
        while True:
            found, start = self._spool.due(after, until, READ_AT_ONCE, start)
            self._note(found, until)
            if start is None:
                return until
            for line in list(self._lines.values()):
                self._pump(line)
            await asyncio.sleep(0)

    def _note(self, found: Iterable[Due], now: float) -> None:
        for due in found:
            if self._recent.get(due.id, -1.0) >= due.next_try:
                continue
            if due.next_try > now - RECENT_SECONDS:
                self._recent[due.id] = due.next_try
            try:
                parcels = self._parcels(due)
            except (
                Exception
            ) as error:  # a fault of ours about one message: the others go, it is looked at again
                self._log(f"not sorted id={due.id} {error!r}")
                continue
            self._queue(parcels)

    def _queue(self, parcels: Iterable[_Parcel]) -> list[_Line]:
        """Let each wait for its turn, or end where it leads nowhere. Returns where they wait."""
        lines = []
        for parcel in parcels:
            if line := self._line(parcel.destination):
                line.turns.add(self._tenant(parcel), parcel.due.id)
                lines.append(line)
            else:
                self._send(parcel, None)
        return lines

    def _forget_recent(self, now: float) -> None:
        """What was found is remembered until the reading of the spool has passed it."""
        while self._recent:
            id, since = next(iter(self._recent.items()))
            if since > now - RECENT_SECONDS and len(self._recent) < MAX_RECENT:
                break
            del self._recent[id]

    def _forget_idle(self) -> None:
        """Destinations to which nothing is to go, and sites of which nobody knows whether they still hold."""
        for destination, line in list(self._lines.items()):
            if not line.turns and not line.resolving and line.lane.is_idle:
                del self._lines[destination]
                self._ahead.drop(destination)
        now = time.monotonic()
        for domain in [domain for domain, (_, until) in self._sites.items() if until < now]:
            del self._sites[domain]

    def _ready(self) -> bool:
        return self._reader.server is not None and bool(self._reader.server.shards)

    # --- where it goes

    def _parcels(self, due: Due) -> list[_Parcel]:
        """A message's recipients by destination. One with several is replaced by what it leads to."""
        parcels: dict[Destination, _Parcel] = {}
        for recipient in due.recipients:
            refusal, targets = self._targets(recipient.address, due.envelope)
            destination = NOWHERE if refusal else self._destination(targets[0], due.envelope)
            if any(self._destination(target, due.envelope) != destination for target in targets[1:]):
                self._spread(due.id, recipient, targets)
                continue
            if (due.id, destination) in self._active:
                self._again.add((due.id, destination))
                continue
            parcel = parcels.get(destination)
            if parcel is None:
                parcel = parcels[destination] = _Parcel(due, destination)
            parcel.targets[recipient.address] = targets
            if destination == NOWHERE:
                unknown = Reply(550, f"5.1.1 <{recipient.address}> is unknown here")
                parcel.replies.update(dict.fromkeys(targets, refusal or unknown))
        return list(parcels.values())

    def _targets(self, address: Address, envelope: Envelope) -> tuple[Reply | None, list[str]]:
        """Where a recipient's copies go, or why nowhere. One that holds no @ is an account already."""
        if "@" not in address or address.startswith(returns.BOUNCE):
            return None, [address]
        outcome = self._router.route(address, may_relay=True)
        if isinstance(outcome, Refusal):
            return Reply(outcome.code, f"{outcome.enhanced} {outcome.text}".strip()), [address]
        targets = [*outcome.accounts, *outcome.remote]
        pool = self._reader.server.bulk if self._reader.server else None
        if pool and self._verp and not self._bulk:
            back = returns.target_of(address, envelope.sender, pool.complaints, self._verp)
            targets += [back] if back else []
        return None, targets

    def _spread(self, id: MessageId, recipient: Recipient, targets: Sequence[str]) -> None:
        """Note that a recipient is several, each with its destination."""
        instead = tuple(Address(target) for target in targets)
        self._spool.report(Outcome(id, recipient.address, time.time(), instead=instead, tried=False))
        self._spool.settled(id, self._spread_on)

    def _spread_on(self, id: MessageId) -> None:
        """They are on disk."""
        now = time.time()
        if (due := self._spool.message(id, now)) is None:
            return
        self._recent[id] = now
        for line in self._queue(self._parcels(due)):
            self._pump(line)

    def _destination(self, target: str, envelope: Envelope) -> Destination:
        """Of a copy; NOWHERE if nobody takes it."""
        if target.startswith((returns.BOUNCE, returns.COMPLAINT)):
            return returns.DESTINATION
        if "@" not in target:
            account = self._reader.account(AccountId(target))
            return NOWHERE if account is None else f"shard-{account.shard}"
        server, domain = self._reader.server, DomainName(target.rpartition("@")[2].lower())
        # Without any way it waits: what was taken while there was one is not bounced because it is gone.
        if server is None:
            return "smarthost"
        if domain not in server.relayed:
            route = routes.of(server, envelope.sender, target)
            if route and route.via:
                return f"rule {route.name}"
            if not (route or server.direct):
                own = server.smarthost and server.smarthost.per_account and envelope.account
                account = self._reader.account(own) if own else None
                return f"smarthost {own}" if account and account.smarthost else "smarthost"
        site, until = self._sites.get(domain, (None, 0.0))
        return site.name if site and until > time.monotonic() else f"@{domain}"

    def _tenant(self, parcel: _Parcel) -> Tenant:
        """Whose message it is: who sends it to others, or who gets it."""
        account: str | None = parcel.due.envelope.account
        if parcel.destination.startswith("shard-"):
            account = next(iter(parcel.targets.values()))[0]
        return account.partition("/")[0] if account else ""

    def _line(self, destination: Destination) -> _Line | None:
        if destination == NOWHERE:
            return None
        line = self._lines.get(destination)
        if line is None:
            remote = not destination.startswith("shard-")
            abroad = destination.startswith(("@", ways.SITE))
            reports = self._reports if abroad else None
            lane = Lane(self._way(destination), self._log, self._leave_alone, reports)
            line = self._lines[destination] = _Line(lane, remote, metrics.DELIVERED.labels(lane.label))
            if destination.startswith("@"):
                line.resolving = True
                self._spawn(self._find_site(DomainName(destination[1:]), line))
        return line

    async def _find_site(self, domain: DomainName, line: _Line) -> None:
        """Move what waits for a domain to the servers that it shares with others."""
        try:
            async with self._lookups:
                site = await ways.site_of(domain, self._reader, self._dns, self._policies)
        except Exception as error:  # its own lane meets the same, and says so
            if not isinstance(error, Undeliverable | Disconnected | LookupError):
                self._log(f"no site domain={domain} {error!r}")
            line.resolving = False
            self._pump(line)
            return
        self._sites[domain] = (site, time.monotonic() + SITE_SECONDS)
        there = self._line(site.name)
        assert there is not None
        while line.turns:
            tenant, id = line.turns.next_of()
            there.turns.add(tenant, id)
            if id in self._kept and line.lane.destination in self._kept[id][2]:
                self._kept[id][2].discard(line.lane.destination)
                self._kept[id][2].add(site.name)
        self._lines.pop(line.lane.destination, None)
        self._pump(there)

    def _leave_alone(self, destination: Destination, seconds: float, why: str) -> None:
        until, names = time.time() + seconds, [destination]
        if destination.startswith(ways.SITE):
            names = [f"@{domain}" for domain, (site, _) in self._sites.items() if site.name == destination]
        for name in names[:MOST_TOLD]:
            self._spool.paused(name, until, why)

    def _way(self, destination: Destination) -> ways.Way:
        kind, _, name = destination.partition(" ")
        if destination == returns.DESTINATION:
            return returns.way(self._reader, self._key or "")
        if kind == "smarthost":
            return ways.to_smarthost(self._reader, self._bulk, AccountId(name) if name else None)
        if kind == "rule":
            return ways.by_rule(name, self._reader, self._bulk)
        if destination.startswith("@"):
            return ways.to_domain(destination[1:], self._reader, self._dns, self._bulk, self._policies)
        if destination.startswith(ways.SITE):
            return ways.to_site(ways.Site.of(destination), self._reader, self._dns, self._bulk)
        return ways.to_shard(int(destination.removeprefix("shard-")), self._reader)

    # --- on the way

    def _has_room(self, line: _Line) -> bool:
        return self._is_open(line) and (not line.remote or self._remote < MAX_REMOTE)

    @staticmethod
    def _is_open(line: _Line) -> bool:
        return line.lane.has_room and not line.resolving

    def _pump(self, line: _Line) -> None:
        """Send what waits for a destination, as much as it takes."""
        while line.turns and self._is_open(line) and not self._stopping:
            if line.remote and self._remote >= MAX_REMOTE:
                self._starved[line.lane.destination] = line  # it has its turn when another one ends
                return
            id = line.turns.next()
            destination = line.lane.destination
            if (id, destination) in self._active:
                self._again.add((id, destination))
                continue
            parcel = self._taken_out(id, destination)
            if parcel is not None:
                self._send(parcel, line)

    def _taken_out(self, id: MessageId, destination: Destination) -> _Parcel | None:
        """A message whose turn it is; None if there is nothing left of it to do here."""
        body: bytes | None = None
        due: Due | None
        if id in self._kept and destination in self._kept[id][2]:
            due, body, waiting = self._kept[id]
            if time.time() - due.envelope.received_at > FRESH_SECONDS:
                due = self._spool.message(id, time.time())  # people may have held it, or sent it elsewhere
            waiting.discard(destination)
            if not waiting:
                del self._kept[id]
            elif body is not None:
                self._bodies += len(body)  # as each of them gives it back
        else:
            due, body = self._ahead.take(destination, id, lambda: self._coming(destination), time.time())
            self._bodies += len(body or b"")
        if due is None:
            self._bodies -= len(body or b"")
            return None
        parcels = self._parcels(due)
        mine = next((p for p in parcels if p.destination == destination), None)
        if mine is None:  # the directory says otherwise by now
            self._bodies -= len(body or b"")
            self._queue(parcels)
            return None
        mine.body = body
        return mine

    def _coming(self, destination: Destination) -> list[MessageId]:
        """What is worth reading ahead: a destination that takes one at a time would let it grow old."""
        line = self._lines.get(destination)
        if line is None or line.lane.connections < BUSY_CONNECTIONS:
            return []
        # Of one that is on its way the spool may not know yet what became of it.
        return [id for id in line.turns.coming(AT_ONCE) if (id, destination) not in self._active]

    def _send(self, parcel: _Parcel, line: _Line | None) -> None:
        """Give a parcel to its lane; without a line it leads nowhere, and that is its outcome."""
        id = parcel.due.id
        self._active.add((id, parcel.destination))
        self._ahead.forget(parcel.destination, id)
        if line is None or self._must_wait(parcel, line):
            self._finish(parcel)
            return
        self._remote += line.remote
        envelope, kept = parcel.due.envelope, parcel.body
        targets = parcel.all_targets
        if self._suppressions and line.remote:
            targets = [target for target in targets if not self._is_suppressed(parcel, target)]
        if not targets:
            self._remote -= line.remote
            self._finish(parcel)
            return

        def done(replies: list[Reply]) -> None:
            self._remote -= line.remote
            parcel.replies.update(zip(targets, replies, strict=True))
            taken = sum(reply.ok for reply in replies)
            if taken:
                line.delivered.inc(taken)
            self._finish(parcel)
            self._pump(line)
            while self._starved and self._remote < MAX_REMOTE:
                self._pump(self._starved.popitem(last=False)[1])

        def body() -> bytes:
            return kept if kept is not None else self._spool.body(id)

        remote = "@" in targets[0]
        line.lane.put(
            Job(
                self._sender(parcel) if remote else envelope.sender,
                targets,
                body,
                done,
                remote and envelope.body_8bit,
                remote and envelope.smtputf8,
            )
        )

    def _is_suppressed(self, parcel: _Parcel, target: str) -> bool:
        """Whether the sender's domain has been told not to write there any more, since it was taken."""
        assert self._suppressions is not None
        domain = parcel.due.envelope.sender.rpartition("@")[2]
        reason = self._suppressions.reason(domain, target)
        if reason is None:
            return False
        metrics.SUPPRESSED.inc()
        parcel.replies[target] = Reply(550, f"5.7.1 {SUPPRESSED} of {domain}: {reason}")
        return True

    def _must_wait(self, parcel: _Parcel, line: _Line) -> bool:
        """Whether a limit of the bulk pool gives the parcel a later time, which is then its outcome."""
        pool = self._reader.server.bulk if self._reader.server and self._bulk else None
        due = parcel.due
        if pool is None or not line.remote or due.attempts or due.reserved:
            return False
        now, count = time.time(), len(parcel.targets)
        at, why = self._limits.reserve(pool, self._tenant(parcel), due.envelope.campaign, count, now)
        if at <= now + POLL_SECONDS:
            return False
        parcel.reserved = at
        for target in parcel.all_targets:
            parcel.replies[target] = Reply(452, f"4.7.28 it waits for its turn: {why}")
        metrics.LIMITED.inc(count)
        return True

    def _sender(self, parcel: _Parcel) -> str:
        """For another server: what is forwarded for somebody else leaves under an address of ours (SRS)."""
        sender = parcel.due.envelope.sender
        if self._bulk and self._verp and sender and len(parcel.targets) == 1:
            (target,) = parcel.all_targets[:1]
            domain = DomainName(sender.rpartition("@")[2].lower())
            return self._verp.mark(sender, target) if self._reader.domain(domain) else sender
        if self._srs is None or not sender or parcel.due.envelope.account:
            return sender
        if self._reader.domain(DomainName(sender.rpartition("@")[2].lower())):
            return sender
        for recipient in parcel.recipients:
            domain = DomainName(recipient.original.rpartition("@")[2].lower())
            if self._reader.domain(domain):
                return self._srs.forward(sender, domain, time.time())
        return sender

    # --- what became of it

    def _finish(self, parcel: _Parcel, expired: bool = False) -> None:
        """All replies are there: note the outcome of every recipient, and tell the sender of failures."""
        due, now = parcel.due, time.time()
        expired = expired or now - due.envelope.received_at > LIFETIME
        outcomes: list[Outcome] = []
        failures: list[dsn.Failure] = []
        held: list[dsn.Failure] = []
        for recipient in parcel.recipients:
            later: list[str] = []
            for target in parcel.targets[recipient.address]:
                reply = parcel.replies[target]
                verdict = "" if reply.ok else verdicts.of(reply)
                self._record(due, recipient, target, reply, verdict, expired)
                if reply.ok:
                    metrics.SECONDS.observe(now - due.envelope.received_at)
                elif reply.permanent or expired:
                    metrics.FAILED.labels(verdict).inc()
                    if SUPPRESSED not in reply.text:  # its sender wanted it so
                        failures.append(dsn.Failure(recipient, str(reply)))
                    if self._suppressions and verdict in verdicts.HARD and "@" in target:
                        self._suppressions.add(
                            due.envelope.sender.rpartition("@")[2], target, f"bounce: {reply}"
                        )
                elif parcel.reserved is not None:
                    later.append(target)
                else:
                    metrics.DEFERRED.labels(verdict).inc()
                    if reply.urgent and not due.warned:
                        held.append(dsn.Failure(recipient, str(reply)))
                    later.append(target)
            outcomes.append(self._outcome(parcel, recipient, later, now))
        if failures or held:
            self._spawn(self._notify(parcel, failures, held, outcomes))
        else:
            self._close(parcel, outcomes)

    def _outcome(self, parcel: _Parcel, recipient: Recipient, later: Sequence[str], now: float) -> Outcome:
        id, address = parcel.due.id, recipient.address
        if not later:
            return Outcome(id, address, None)
        reply = str(parcel.replies[later[0]])
        if parcel.reserved is not None:
            return Outcome(id, address, parcel.reserved, reply, tried=False, reserved=True)
        again = now + backoff(parcel.due.attempts)
        # Those that took their copy get none again: the others take the recipient's place.
        instead = tuple(Address(t) for t in later) if len(later) < len(parcel.targets[address]) else ()
        return Outcome(id, address, again, reply, instead)

    def _record(
        self, due: Due, recipient: Recipient, target: str, reply: Reply, verdict: str, expired: bool
    ) -> None:
        word = "delivered" if reply.ok else "failed" if reply.permanent or expired else "deferred"
        if self._bulk and "@" in target:
            envelope, at = due.envelope, time.time()
            self._spool.event(
                Event(at, due.id, envelope.sender, target, envelope.campaign, word, verdict, str(reply))
            )
        kind = f" class={verdict}" if verdict else ""
        self._log(f"{word} id={due.id} to=<{recipient.address}> target={target}{kind} reply={str(reply)!r}")

    async def _notify(
        self,
        parcel: _Parcel,
        failures: Sequence[dsn.Failure],
        held: Sequence[dsn.Failure],
        outcomes: list[Outcome],
    ) -> None:
        """The notification is on disk before the failed recipient leaves it."""
        due, body = parcel.due, parcel.body
        failed = await self._tell(due, body, failures, "failed") if failures else True
        if held and await self._tell(due, body, held, "delayed"):
            self._spool.warned(due.id)
        if not failed:  # the recipient is not given up without a word
            told = {f.recipient.address for f in failures}
            outcomes = [
                Outcome(o.id, o.address, time.time() + FIRST_RETRY, "4.3.0 no notification could be stored")
                if o.address in told and o.next_try is None
                else o
                for o in outcomes
            ]
        self._close(parcel, outcomes)

    async def _tell(
        self, due: Due, body: bytes | None, about: Sequence[dsn.Failure], action: dsn.Action
    ) -> bool:
        """Send the sender a notification, if one is wanted. False if that could not be stored."""
        told = [f for f in about if dsn.wants_notification(due.envelope, f.recipient, action)]
        if not told or self._reader.server is None:
            return True
        try:
            original = body if body is not None else self._spool.body(due.id)
            now = time.time()
            host = self._reader.server.hostname
            report = dsn.build(due.id, due.envelope, original, told, host, now, action)
            back = Envelope("", (Recipient(Address(due.envelope.sender)),), now)
            id = await self._spool.accept(back, report)
        except KeyError:
            return True  # an administrator deleted it
        except Exception as error:
            what = error if isinstance(error, SpoolError) else repr(error)
            self._log(f"no notification id={due.id} {what}")
            return False
        metrics.NOTIFICATIONS.inc()
        self._log(f"notified id={due.id} sender=<{due.envelope.sender}> action={action} as={id}")
        return True

    def _close(self, parcel: _Parcel, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._spool.report(outcome)
        self._bodies -= len(parcel.body or b"")
        self._spool.settled(parcel.due.id, lambda _: self._settled(parcel))

    def _settled(self, parcel: _Parcel) -> None:
        key = (parcel.due.id, parcel.destination)
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            if line := self._line(parcel.destination):
                line.turns.add(self._tenant(parcel), parcel.due.id)
                self._pump(line)

    # --- what takes too long

    async def _sweep(self, now: float) -> None:
        """Give up what is too old, warn of what is old, and look again at what is overdue."""
        try:
            self._limits.forget(now)
            async for due, _ in self._older(now - LIFETIME, 0):
                self._give_up(due)
            # Each is looked at once: of a million that wait for hours, none is read every minute.
            async for due, number in self._older(now - WARNED_AFTER, self._warned):
                self._warned = number
                if not due.warned:
                    waits = [dsn.Failure(r, due.replies.get(r.address) or WAITS) for r in due.recipients]
                    if await self._tell(due, None, waits, "delayed"):
                        self._spool.warned(due.id)
            overlooked, _ = self._spool.due(0, now - SWEEP_SECONDS, READ_AT_ONCE)
            self._note(overlooked, now)
        finally:
            self._sweeping = False

    async def _older(self, received: float, start: int) -> AsyncIterator[tuple[Due, int]]:
        """All messages of before then, behind the one of this number, each with how far that is."""
        while True:
            found, end = self._spool.older(received, READ_AT_ONCE // 10, start)
            for due in found:
                yield due, end
            if end == start:
                return
            start = end
            await asyncio.sleep(0)

    def _give_up(self, due: Due) -> None:
        if any(id == due.id for id, _ in self._active):
            return  # the next sweep sees to what is left
        parcel = _Parcel(due, NOWHERE)
        for recipient in due.recipients:
            last = due.replies.get(recipient.address) or "it could not be delivered in time"
            parcel.targets[recipient.address] = [recipient.address]
            parcel.replies[recipient.address] = Reply(554, f"5.4.7 delivery time expired: {last}")
        self._active.add((due.id, NOWHERE))
        self._finish(parcel, expired=True)
