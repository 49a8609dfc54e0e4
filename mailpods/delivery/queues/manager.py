"""Delivers what a spool holds: recipients to destinations, replies to outcomes.

What waits stays in the spool; here are names of messages, sorted by destination and, within one, by tenant.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence

from mailpods.bulk.limits import Limits, day_of
from mailpods.bulk.suppression import Suppressions
from mailpods.delivery import metrics
from mailpods.delivery.batch import DeliveryBatch
from mailpods.delivery.client.replies import Disconnected, Reply
from mailpods.delivery.destinations.base import NOWHERE, Destination, Network
from mailpods.delivery.destinations.mx import Domain, site_of
from mailpods.delivery.destinations.sts import Policies
from mailpods.delivery.outcomes.apply import Outcomes
from mailpods.delivery.outcomes.settle import settle
from mailpods.delivery.outcomes.tls_reports import TlsReports
from mailpods.delivery.queues import shaping
from mailpods.delivery.queues.bulk_gate import BulkGate
from mailpods.delivery.queues.destination_queue import DestinationQueue
from mailpods.delivery.queues.memory import Memory
from mailpods.delivery.queues.prefetch import AT_ONCE
from mailpods.delivery.queues.ready_queue import ReadyQueue
from mailpods.delivery.queues.scheduler import POLL_SECONDS, SWEEP_SECONDS, Scheduler, Sweep
from mailpods.delivery.queues.sorter import Sorter
from mailpods.delivery.queues.transaction import Transaction
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, Address
from mailpods.dns.resolver import Resolver, Undeliverable
from mailpods.spool.changes import Counted, Paused
from mailpods.spool.leases import Leases
from mailpods.spool.message import DeliveryResult, MessageId, QueuedMessage, Recipient
from mailpods.spool.spool import Spool

MAX_REMOTE = 4000  # messages on their way to other servers at a time
BUSY_CONNECTIONS = 4  # to a destination, from which on its messages are read ahead
PUT_OFF = Reply(441, "4.3.0 the rest of its recipients waits")
MAX_RECIPIENTS = 100  # of one transaction, as every server takes (RFC 5321 §4.5.3.1.8)
MOST_FAULTS = 30  # rounds without success, behind which a new process may do better
LOOKUPS_AT_ONCE = 100  # of domains' mail servers
MOST_TOLD = 1000  # domains of a site that is left alone, of which people are told

Log = Callable[[str], None]


class QueueManager:
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
        self._reader, self._reports, self._log = reader, reports, log
        bulk = suppressions is not None
        self._network = Network(reader, dns, bulk, policies, key or "")
        self._spool, self._schedule = spool, spool.schedule
        counts = spool.schedule.sent(day_of(time.time()))
        limits = Limits(counts, lambda *count: spool.report(Counted(*count)))
        self._gate = BulkGate(reader, limits, suppressions)
        self._sorter = Sorter(reader, key, bulk)
        self._outcomes = Outcomes(spool, reader, suppressions, log, self._spawn, self._reported)
        self._scheduler = Scheduler(spool, self._found, self._pump_all, log)
        self._sweep = Sweep(spool, self._scheduler, self._outcomes, limits, self._give_up)
        self._queues: dict[Destination, DestinationQueue] = {}
        self._leases: Leases[Destination] = Leases()
        self._remote = 0  # how many of those under way go to other servers
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        # Those that wait for MAX_REMOTE.
        self._starved: OrderedDict[Destination, DestinationQueue] = OrderedDict()
        self._memory = Memory(spool.schedule)
        self._sweeping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self, failed: Callable[[str], None] = lambda _: None) -> None:
        """Begin with what the spool holds, and go on with what it takes.

        `failed` is told why nothing is delivered any more: only a new process may help.
        """
        self._spool.on_accepted = self._on_accepted
        self._spool.watch(failed, self.late)
        self._spawn(self._poll(failed))

    async def stop(self, seconds: float) -> None:
        """Let deliveries under way finish, for a while; the rest stays in the spool."""
        self._stopping = True
        end = time.monotonic() + seconds
        while self._leases and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(queue.ready.close() for queue in self._queues.values()))

    def connections(self) -> Counter[str]:
        """How many there are to each destination, by its title."""
        counts: Counter[str] = Counter()
        for destination, queue in self._queues.items():
            if queue.ready.connections:
                counts[destination.title] += queue.ready.connections
        return counts

    def late(self, ids: Sequence[MessageId]) -> None:
        """These were put off until a time that had passed before it was on disk."""
        if not self._stopping:
            self._scheduler.look_at(ids, time.time())
            self._pump_all()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._log(f"a task of delivery ended: {error!r}")

    # --- what is due

    def _on_accepted(self, message: QueuedMessage, body: bytes) -> None:
        """A message was taken a moment ago."""
        if self._stopping or not self._is_ready() or self._scheduler.knows(message.id):
            return  # the reading of the spool finds it, or has found it between its commit and now
        self._scheduler.remember(message.id, message.envelope.received_at)
        waiting: set[Destination] = set()
        for batch in self._sorted(message):
            queue = self._queue(batch.destination)
            if queue is None or (not queue.waiting and self._has_room(queue)):
                batch.body = self._memory.borrow(body)
                self._send(batch, queue)
            else:
                queue.waiting.add(self._sorter.tenant(batch), message.id)
                waiting.add(batch.destination)
        self._memory.keep(message, body, waiting)

    async def _poll(self, failed: Callable[[str], None]) -> None:
        """Find what is due: after a start, after a put-off, what others wrote into the spool."""
        sweep, faults = time.monotonic() + SWEEP_SECONDS, 0
        while True:
            try:
                if self._is_ready() and not self._stopping:
                    await self._scheduler.read(time.time())
                    if time.monotonic() >= sweep and not self._sweeping:
                        sweep, self._sweeping = time.monotonic() + SWEEP_SECONDS, True
                        self._spawn(self._swept())
                self._forget_idle()
                faults = 0
            except Exception as error:  # of the moment, as a database that somebody locks; or it stays
                faults += 1
                self._log(f"what is due is not found: {error!r}")
                if faults == MOST_FAULTS:
                    failed(f"what is due is not found: {error!r}")
            metrics.ACTIVE.set(len(self._leases))
            await asyncio.sleep(POLL_SECONDS)

    async def _swept(self) -> None:
        try:
            await self._sweep.run(time.time())
        finally:
            self._sweeping = False

    def _found(self, message: QueuedMessage) -> None:
        self._enqueue(self._sorted(message))

    def _sorted(self, message: QueuedMessage) -> list[DeliveryBatch]:
        """Its recipients by destination, but those that are under way. One with several is replaced by what
        it leads to, each of which is found anew."""
        try:
            batches, several = self._sorter.batches(message)
        except Exception as error:  # a fault of ours about one message: the others go
            everybody = {each.address: [str(each.address)] for each in message.recipients}
            self._outcomes.park(DeliveryBatch(message, NOWHERE, everybody), error)
            return []
        for recipient, targets in several:
            self._spread(message.id, recipient, targets)
        free = []
        for batch in batches:
            if self._leases.is_taken(message.id, batch.destination):
                self._leases.look_again(message.id, batch.destination)
            else:
                free.append(batch)
        return free

    def _enqueue(self, batches: Iterable[DeliveryBatch]) -> list[DestinationQueue]:
        """Let each wait for its turn, or end where it leads nowhere. Returns where they wait."""
        queues = []
        for batch in batches:
            if queue := self._queue(batch.destination):
                queue.waiting.add(self._sorter.tenant(batch), batch.id)
                queues.append(queue)
            else:
                self._send(batch, None)
        return queues

    def _spread(self, id: MessageId, recipient: Recipient, targets: Sequence[str]) -> None:
        """Note that a recipient is several, each with its destination."""
        replaced_by = tuple(Address(target) for target in targets)
        self._spool.report(
            DeliveryResult(id, recipient.address, time.time(), replaced_by=replaced_by, tried=False)
        )
        self._spool.committed(id, lambda id: self._look_at([id]))

    def _look_at(self, ids: Sequence[MessageId]) -> None:
        now = time.time()
        for id in ids:
            if message := self._schedule.message(id, now):
                self._scheduler.remember(id, now)
                for queue in self._enqueue(self._sorted(message)):
                    self._pump(queue)

    def _forget_idle(self) -> None:
        """Destinations to which nothing is to go, and what is known of sites for too long."""
        for destination, queue in list(self._queues.items()):
            if not queue.waiting and not queue.resolving and queue.ready.is_idle:
                del self._queues[destination]
                self._memory.drop(destination)
        self._sorter.forget_old()

    def _is_ready(self) -> bool:
        return self._reader.server is not None and bool(self._reader.server.shards)

    # --- destinations

    def _queue(self, destination: Destination) -> DestinationQueue | None:
        if destination is NOWHERE:
            return None
        queue = self._queues.get(destination)
        if queue is None:
            reports = self._reports if destination.is_abroad else None
            rules = self._reader.server.shaping if self._reader.server else ()
            shape = shaping.of(destination.hosts, rules)
            ready = ReadyQueue(destination, self._network, self._log, self._left_alone, reports, shape)
            queue = DestinationQueue(ready, metrics.DELIVERED.labels(destination.metric))
            self._queues[destination] = queue
            if isinstance(destination, Domain):
                queue.resolving = True
                self._spawn(self._find_site(destination, queue))
        return queue

    async def _find_site(self, domain: Domain, queue: DestinationQueue) -> None:
        """Move what waits for a domain to the servers that it shares with others."""
        try:
            async with self._lookups:
                site = await site_of(domain.domain, self._network)
        except Exception as error:  # its own ready queue meets the same, and says so
            if not isinstance(error, Undeliverable | Disconnected | LookupError):
                self._log(f"no site domain={domain.domain} {error!r}")
            queue.resolving = False
            self._pump(queue)
            return
        self._sorter.believe(domain.domain, site)
        there = self._queue(site)
        assert there is not None
        while queue.waiting:
            tenant, id = queue.waiting.next_of()
            there.waiting.add(tenant, id)
            self._memory.move(id, domain, site)
        self._queues.pop(domain, None)
        self._pump(there)

    def _left_alone(self, destination: Destination, seconds: float, why: str) -> None:
        until = time.time() + seconds
        for name in self._sorter.names_of(destination)[:MOST_TOLD]:
            self._spool.report(Paused(name, until, why))

    # --- on the way

    def _has_room(self, queue: DestinationQueue) -> bool:
        return self._is_open(queue) and (not queue.destination.is_remote or self._remote < MAX_REMOTE)

    @staticmethod
    def _is_open(queue: DestinationQueue) -> bool:
        return queue.ready.has_room and not queue.resolving

    def _pump_all(self) -> None:
        for queue in list(self._queues.values()):
            self._pump(queue)

    def _pump(self, queue: DestinationQueue) -> None:
        """Send what waits for a destination, as much as it takes."""
        destination = queue.destination
        while queue.waiting and self._is_open(queue) and not self._stopping:
            if destination.is_remote and self._remote >= MAX_REMOTE:
                self._starved[destination] = queue  # it has its turn when another one ends
                return
            id = queue.waiting.next()
            if self._leases.is_taken(id, destination):
                self._leases.look_again(id, destination)
                continue
            batch = self._taken_out(id, destination)
            if batch is not None:
                self._send(batch, queue)

    def _taken_out(self, id: MessageId, destination: Destination) -> DeliveryBatch | None:
        """A message whose turn it is; None if there is nothing left of it to do here."""
        message, body = self._memory.recall(id, destination, lambda: self._coming(destination))
        batches = self._sorted(message) if message else []
        mine = next((batch for batch in batches if batch.destination == destination), None)
        if mine is None:
            self._memory.give_back(body)
            self._enqueue(batches)  # the directory says otherwise by now
            return None
        mine.body = body
        return mine

    def _coming(self, destination: Destination) -> list[MessageId]:
        """What is worth reading ahead: a destination that takes one at a time would let it grow old."""
        queue = self._queues.get(destination)
        if queue is None or queue.ready.connections < BUSY_CONNECTIONS:
            return []
        # Of one that is on its way the spool may not know yet what became of it.
        return [id for id in queue.waiting.coming(AT_ONCE) if not self._leases.is_taken(id, destination)]

    def _send(self, batch: DeliveryBatch, queue: DestinationQueue | None) -> None:
        """Give a batch to its ready queue; without one it leads nowhere, and that is its outcome."""
        self._leases.take(batch.id, batch.destination)
        self._memory.forget(batch.destination, batch.id)
        try:
            self._put(batch, queue)
        except Exception as error:
            self._outcomes.park(batch, error)

    def _put(self, batch: DeliveryBatch, queue: DestinationQueue | None) -> None:
        targets = self._gate.targets(batch)
        if queue is None or self._gate.must_wait(batch, self._sorter.tenant(batch)) or not targets:
            self._outcomes.apply(batch)
            return
        self._remote += batch.destination.is_remote
        self._put_some(batch, queue, targets)

    def _put_some(
        self, batch: DeliveryBatch, queue: DestinationQueue, targets: list[str], is_first: bool = True
    ) -> None:
        """As many recipients as servers take in one transaction; the others behind them."""
        envelope, kept = batch.message.envelope, batch.body
        now, later = targets[:MAX_RECIPIENTS], targets[MAX_RECIPIENTS:]
        remote = "@" in targets[0]

        def done(replies: list[Reply] | None) -> None:
            if replies is None and is_first:
                self._given_back(batch, queue)
                return
            believed, excess = settle(now, replies or [PUT_OFF] * len(now), self._is_account)
            batch.replies.update(believed)
            if taken := sum(reply.ok for reply in believed.values()):
                queue.delivered.inc(taken)
            if excess or later:
                self._put_some(batch, queue, [*excess, *later], is_first=False)
            else:
                self._done(batch, queue)

        queue.ready.put(
            Transaction(
                self._sorter.sender(batch) if remote else envelope.sender,
                now,
                lambda: kept if kept is not None else self._schedule.body(batch.id),
                done,
                remote and envelope.body_8bit,
                remote and envelope.smtputf8,
                lambda: self._is_current(batch),
            )
        )

    def _is_account(self, target: str) -> bool:
        return "@" not in target and self._reader.account(AccountId(target)) is not None

    def _done(self, batch: DeliveryBatch, queue: DestinationQueue) -> None:
        self._remote -= batch.destination.is_remote
        self._outcomes.apply(batch)
        self._pump(queue)
        while self._starved and self._remote < MAX_REMOTE:
            self._pump(self._starved.popitem(last=False)[1])

    def _is_current(self, batch: DeliveryBatch) -> bool:
        """Whether the spool and the directory still say the same of it."""
        message = self._schedule.message(batch.id, time.time())
        if message is None:
            return False
        batches, _ = self._sorter.batches(message)
        same = next((each for each in batches if each.destination == batch.destination), None)
        return same is not None and all(same.targets.get(to) == there for to, there in batch.targets.items())

    def _given_back(self, batch: DeliveryBatch, queue: DestinationQueue) -> None:
        """It was not tried: it waits where it waited, at the front."""
        self._remote -= batch.destination.is_remote
        self._memory.give_back(batch.body)
        self._leases.give_back(batch.id, batch.destination)
        queue.waiting.add_first(self._sorter.tenant(batch), batch.id)

    # --- what became of it

    def _reported(self, batch: DeliveryBatch) -> None:
        """All about it is reported; it is over once that is on disk."""
        self._memory.give_back(batch.body)
        self._spool.committed(batch.id, lambda _: self._over(batch))

    def _over(self, batch: DeliveryBatch) -> None:
        if self._leases.give_back(batch.id, batch.destination) and (queue := self._queue(batch.destination)):
            queue.waiting.add(self._sorter.tenant(batch), batch.id)
            self._pump(queue)

    def _give_up(self, batch: DeliveryBatch) -> None:
        """Of a message that is too old; the next sweep sees to what is under way."""
        if not self._leases.holds(batch.id):
            self._leases.take(batch.id, batch.destination)
            self._outcomes.apply(batch, expired=True)
