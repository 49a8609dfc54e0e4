"""Delivers what a spool holds: recipients to lanes, replies to outcomes, failures to notifications."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailpods.delivery import dsn, metrics, ways
from mailpods.delivery.client import Reply
from mailpods.delivery.lane import Job, Lane
from mailpods.delivery.resolver import Resolver
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.routing import routes
from mailpods.routing.router import Refused, Router
from mailpods.spool.message import Envelope, MessageId, Recipient
from mailpods.spool.spool import Due, Outcome, Spool, SpoolError

LIFETIME = 5 * 86400.0  # seconds, RFC 5321 §4.5.4.1
FIRST_RETRY, LONGEST_RETRY = 30.0, 3600.0  # seconds
MAX_ACTIVE = 2000  # messages whose delivery is under way or waits for its destination
MAX_BACKLOG = 100_000  # fresh messages remembered beside those; further ones are found in the spool
MAX_BODIES = 64 << 20  # bytes of bodies kept in memory; others are read again when it is their turn
POLL_SECONDS = 1.0

Log = Callable[[str], None]
Destination = str  # shard-0, smarthost, smarthost 7/info, rule NAME, @example.org


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: twice as long each time, with jitter, an hour at most."""
    return float(min(FIRST_RETRY * 2**attempts, LONGEST_RETRY) * random.uniform(0.8, 1.2))


@dataclass
class _Message:
    """A message under way: which recipient waits for which targets, and what they said."""

    due: Due
    body: bytes | None
    targets: dict[Address, list[str]] = field(default_factory=dict)  # recipient -> accounts, addresses
    replies: dict[str, Reply] = field(default_factory=dict)  # target -> its last reply
    open: int = 0  # jobs that are not done


class Deliverer:
    """Call `start()` within a running loop."""

    def __init__(self, reader: DirectoryReader, spool: Spool, dns: Callable[[], Resolver], log: Log) -> None:
        self._reader = reader
        self._dns = dns
        self._router = Router(reader)
        self._spool = spool
        self._log = log
        self._active: dict[MessageId, _Message] = {}
        self._backlog: deque[tuple[Due, bytes | None]] = deque()
        self._known: set[MessageId] = set()  # in either of them
        self._bodies = 0
        self._lanes: dict[Destination, Lane] = {}
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
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fresh(self, due: Due, body: bytes) -> None:
        if self._stopping or due.id in self._known or len(self._backlog) >= MAX_BACKLOG:
            return  # known: _poll() found it between its commit and now
        kept = body if self._bodies + len(body) <= MAX_BODIES else None
        self._bodies += len(kept or b"")
        self._known.add(due.id)
        self._backlog.append((due, kept))
        self._fill()

    async def _poll(self) -> None:
        """Find what is due: after a start, after a put-off, after an overflow."""
        while True:
            room = MAX_ACTIVE // 2 - len(self._known)
            if room > 0 and self._ready():
                for due in self._spool.due(time.time(), room, frozenset(self._known)):
                    self._known.add(due.id)
                    self._backlog.append((due, None))
            self._fill()
            for destination in [d for d, lane in self._lanes.items() if lane.is_idle]:
                del self._lanes[destination]
            metrics.ACTIVE.set(len(self._known))
            await asyncio.sleep(POLL_SECONDS)

    def _ready(self) -> bool:
        return self._reader.server is not None and bool(self._reader.server.shards)

    def _fill(self) -> None:
        while self._backlog and len(self._active) < MAX_ACTIVE and self._ready() and not self._stopping:
            due, body = self._backlog.popleft()
            self._begin(due, body)

    def _begin(self, due: Due, body: bytes | None) -> None:
        message = self._active[due.id] = _Message(due, body)
        lanes: dict[Destination, list[str]] = {}
        for recipient in due.recipients:
            targets = self._targets(recipient.address, message)
            message.targets[recipient.address] = targets
            for target in targets:
                destination = self._destination(target, due.envelope)
                if target in message.replies:
                    continue
                if destination is None:
                    message.replies[target] = Reply(550, f"5.1.1 <{target}> is unknown here")
                elif target not in lanes.setdefault(destination, []):
                    lanes[destination].append(target)
        message.open = len(lanes)
        for destination, targets in lanes.items():
            self._send(destination, targets, message)
        if not lanes:
            self._finish(message)

    def _targets(self, address: Address, message: _Message) -> list[str]:
        """Where a recipient's copies go. One that holds no @ is an account already."""
        if "@" not in address:
            return [address]
        outcome = self._router.route(address, may_relay=True)
        if isinstance(outcome, Refused):
            text = f"{outcome.enhanced} {outcome.text}".strip()
            message.replies[address] = Reply(outcome.code, text)
            return [address]
        return [*outcome.accounts, *outcome.remote]

    def _destination(self, target: str, envelope: Envelope) -> Destination | None:
        """Of a copy; None where nobody takes it."""
        if "@" not in target:
            account = self._reader.account(AccountId(target))
            return None if account is None else f"shard-{account.shard}"
        server, domain = self._reader.server, DomainName(target.rpartition("@")[2].lower())
        # Without any way it waits: what was taken while there was one is not bounced because it is gone.
        if server is None:
            return "smarthost"
        if domain not in server.relayed:
            if route := routes.of(server, envelope.sender, target):
                return f"@{domain}" if route.via is None else f"rule {route.name}"
            if not server.direct:
                own = server.smarthost and server.smarthost.per_account and envelope.account
                account = self._reader.account(own) if own else None
                return f"smarthost {own}" if account and account.smarthost else "smarthost"
        return f"@{domain}"

    def _way(self, destination: Destination) -> ways.Way:
        kind, _, name = destination.partition(" ")
        if kind == "smarthost":
            return ways.to_smarthost(self._reader, AccountId(name) if name else None)
        if kind == "rule":
            return ways.by_rule(name, self._reader)
        if destination.startswith("@"):
            return ways.to_domain(destination[1:], self._reader, self._dns)
        return ways.to_shard(int(destination.removeprefix("shard-")), self._reader)

    def _send(self, destination: Destination, targets: list[str], message: _Message) -> None:
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = Lane(self._way(destination), self._log)
        envelope, id, kept = message.due.envelope, message.due.id, message.body

        def done(replies: list[Reply]) -> None:
            message.replies.update(zip(targets, replies, strict=True))
            taken = sum(reply.ok for reply in replies)
            if taken:
                metrics.DELIVERED.labels(lane.label).inc(taken)
            message.open -= 1
            if not message.open:
                self._finish(message)

        def body() -> bytes:
            return kept if kept is not None else self._spool.body(id)

        remote = "@" in targets[0]
        lane.put(
            Job(
                envelope.sender,
                targets,
                body,
                done,
                remote and envelope.body_8bit,
                remote and envelope.smtputf8,
            )
        )

    def _finish(self, message: _Message) -> None:
        """All replies are there: note the outcome of every recipient, and tell the sender of failures."""
        due, now = message.due, time.time()
        expired = now - due.envelope.received_at > LIFETIME
        outcomes: list[Outcome] = []
        failures: list[dsn.Failure] = []
        for recipient in due.recipients:
            later: list[str] = []
            for target in message.targets[recipient.address]:
                reply = message.replies[target]
                self._record(due, recipient, target, reply, expired)
                if reply.ok:
                    metrics.SECONDS.observe(now - due.envelope.received_at)
                elif reply.permanent or expired:
                    failures.append(dsn.Failure(recipient, str(reply)))
                else:
                    later.append(target)
            outcomes.append(self._outcome(message, recipient, later, now))
        if failures:
            self._spawn(self._notify(message, failures, outcomes))
        else:
            self._close(message, outcomes)

    def _outcome(self, message: _Message, recipient: Recipient, later: Sequence[str], now: float) -> Outcome:
        id, address = message.due.id, recipient.address
        if not later:
            return Outcome(id, address, None)
        metrics.DEFERRED.inc()
        reply = str(message.replies[later[0]])
        again = now + backoff(message.due.attempts)
        # Those that took their copy get none again: the others take the recipient's place.
        instead = tuple(Address(t) for t in later) if len(later) < len(message.targets[address]) else ()
        return Outcome(id, address, again, reply, instead)

    def _record(self, due: Due, recipient: Recipient, target: str, reply: Reply, expired: bool) -> None:
        word = "delivered" if reply.ok else "failed" if reply.permanent or expired else "deferred"
        self._log(f"{word} id={due.id} to=<{recipient.address}> target={target} reply={str(reply)!r}")

    async def _notify(self, message: _Message, failures: list[dsn.Failure], outcomes: list[Outcome]) -> None:
        """The notification is on disk before the failed recipient leaves it."""
        envelope: Envelope = message.due.envelope
        metrics.FAILED.inc(len(failures))
        told = [f for f in failures if dsn.wants_notification(envelope, f.recipient)]
        if told and self._reader.server:
            try:
                original = message.body if message.body is not None else self._spool.body(message.due.id)
                now = time.time()
                report = dsn.build(
                    message.due.id, envelope, original, told, self._reader.server.hostname, now
                )
                back = Envelope("", (Recipient(Address(envelope.sender)),), now)
                id = await self._spool.accept(back, report)
            except KeyError:
                pass  # an administrator deleted it
            except Exception as error:  # whatever it is: the recipient is not given up without a word
                what = error if isinstance(error, SpoolError) else repr(error)
                self._log(f"no notification id={message.due.id} {what}")
                failed = {f.recipient.address for f in told}
                outcomes = [
                    Outcome(o.id, o.address, time.time() + FIRST_RETRY, str(error))
                    if o.address in failed and o.next_try is None
                    else o
                    for o in outcomes
                ]
            else:
                metrics.NOTIFICATIONS.inc()
                self._log(f"notified id={message.due.id} sender=<{envelope.sender}> as={id}")
        self._close(message, outcomes)

    def _close(self, message: _Message, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._spool.report(outcome)
        self._bodies -= len(message.body or b"")
        del self._active[message.due.id]
        self._spool.settled(message.due.id, self._forget)

    def _forget(self, id: MessageId) -> None:
        self._known.discard(id)
        self._fill()
