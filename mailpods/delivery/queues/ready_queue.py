"""One destination: its queue in memory, its few connections, used again, and what is done while it is down.

A store gets one message at a time for each mailbox: its Dovecot locks a mailbox for every delivery, and those
that find it locked look again only now and then. Twenty connections to one of 2.4 stored 5 messages a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from mailpods.delivery.client.connection import Connection, Mail
from mailpods.delivery.client.replies import Disconnected, LoginRefused, OutOfStep, Reply, Unwelcome
from mailpods.delivery.destinations.base import Destination, Network
from mailpods.delivery.outcomes.tls_reports import TlsReports
from mailpods.delivery.queues.in_order import InOrder
from mailpods.delivery.queues.reachability import Paused, Reachability
from mailpods.delivery.queues.transaction import Gone, Transaction, Withdrawn
from mailpods.directory.records import Shape
from mailpods.dns.resolver import Undeliverable

IDLE_SECONDS = 20.0  # until an unused connection to our own house, or its smarthost, is closed
IDLE_ABROAD_SECONDS = 3.0  # … to one of the many others, whose connections are not ours to keep
PROBE_SECONDS = 1.0  # between attempts to reach a destination that is down, for which mail waits here
HELD_LOAD = 400  # messages that wait here whose recipients take theirs one after another
MAX_FAILURES = 3  # connections that may fail under one message before it is put off
AVOIDED_SECONDS = 300.0  # that a mail server is asked after the others, once it sent us away
UNREACHABLE = 441  # our own code, for a destination that cannot be reached: always temporary


GONE = Reply(250, "gone")

_Begun = tuple[Transaction, Mail]  # a part of which was sent behind the one before


class ReadyQueue:
    """Delivers to one destination."""

    def __init__(
        self,
        destination: Destination,
        network: Network,
        log: Callable[[str], None],
        paused: Paused = lambda *_: None,
        reports: TlsReports | None = None,
        shape: Shape | None = None,
    ) -> None:
        """`paused` is told for how many seconds a destination is left alone, and why.

        `reports`: it is another's, for which TLS is counted. `shape`: what it takes.
        """
        self.destination, self._network = destination, network
        self._held_here = destination.is_held_in_memory
        self._most = (shape and shape.connections) or destination.connections
        self._messages = shape.messages if shape else 0  # over one connection; 0: any number
        self._per_minute = shape.per_minute if shape else 0
        self._reports = reports
        self.reachability = Reachability(destination, log, paused)
        # Connections at a time: to servers of the world one at first, and more as they prove to take them.
        self._limit = self._most if self._held_here else 1
        self._load = 0  # transactions that are not done
        self._slot = 0.0  # when the next message may go, in the loop's time
        self._in_order = InOrder(destination.is_one_per_recipient)
        self._log = log
        self._waiting: deque[Transaction] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[Transaction | None]] = []  # wait for work, the last one first
        self._connecting = asyncio.Lock()
        self._avoid: dict[str, float] = {}  # mail servers, and until when, in the loop's time
        self._whole = True  # by BDAT, where it is offered; not behind one that answered out of step

    @property
    def has_room(self) -> bool:
        """Whether another transaction would soon have its turn."""
        if self.reachability.is_paused:
            return False
        if self.reachability.is_down:
            return self._load == 0  # it is tried with one; the others wait in the spool
        # Of two for each connection, one goes out right behind the other.
        return self._load < (HELD_LOAD if self._held_here else 2 * self._limit)

    @property
    def connections(self) -> int:
        """How many are open, or being opened."""
        return len(self._workers)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be forgotten without it: no transaction, no connection, no pause."""
        return not (self._workers or self._load or self.reachability.is_paused)

    def put(self, transaction: Transaction) -> None:
        """Take one; another connection is opened when all are busy."""
        self._load += 1
        self._admit(transaction)

    def _admit(self, transaction: Transaction) -> None:
        if not self._in_order.take(transaction):
            return
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.done():
                waiting.set_result(transaction)
                return
        self._waiting.append(transaction)
        self._employ_another()

    def _employ_another(self) -> None:
        is_down = self.reachability.is_down
        if len(self._workers) < self._limit and (not is_down or not self._workers):
            task = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._left)

    def _left(self, worker: "asyncio.Task[None]") -> None:
        self._workers.discard(worker)
        if not worker.cancelled():
            if error := worker.exception():
                self._log(f"lane={self.destination.name} {error!r}")
            if self._waiting and not self._workers:
                self._employ_another()

    def _end(self, transaction: Transaction, replies: list[Reply] | None) -> None:
        """It is over; the next ones for its recipients may go."""
        self._load -= 1
        for waiting in self._in_order.release(transaction):
            self._admit(waiting)
        self._tell(transaction, replies)  # at last: it may put the next one

    def _tell(self, transaction: Transaction, replies: list[Reply] | None) -> None:
        try:
            transaction.done(replies)
        except Exception as error:  # a fault about one message must not end a connection of others
            self._log(f"lane={self.destination.name} not noted: {error!r}")

    def _give_all_back(self) -> None:
        """What only waits, while the destination is down, waits in the spool: there it can be held, sent
        elsewhere, or expire."""
        waiting = self._in_order.give_up(list(self._waiting))
        self._waiting.clear()
        for transaction in reversed(waiting):
            self._load -= 1
            self._tell(transaction, None)

    async def close(self) -> None:
        """End the connections at once; what is under way stays in the spool."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _next(self) -> Transaction | None:
        """The next one, or None when none came for a while, or when there are too many connections."""
        if len(self._workers) > self._limit and (worker := asyncio.current_task()):
            self._workers.discard(worker)  # at once, or all that look now would find one too many
            return None
        if self._waiting:
            return self._waiting.popleft()
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Transaction | None] = loop.create_future()
        self._idle.append(waiting)
        seconds = IDLE_SECONDS if self._held_here else IDLE_ABROAD_SECONDS
        timer = loop.call_later(seconds, self._give_up, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()

    def _give_up(self, waiting: "asyncio.Future[Transaction | None]") -> None:
        if waiting in self._idle:  # else it was given one this very moment
            self._idle.remove(waiting)
            waiting.set_result(None)

    async def _work(self) -> None:
        connection: Connection | None = None
        count = 0  # messages over this connection
        try:
            transaction, mail = await self._next(), None
            while transaction:
                if connection is None:
                    count = 0
                elif self._messages and count >= self._messages:
                    await connection.quit()
                    connection, count = None, 0
                if self._per_minute:
                    await self._pace()
                connection, following = await self._do(transaction, mail, connection)
                count += 1
                transaction, mail = following or (await self._next(), None)
        finally:
            if connection:
                with suppress(Disconnected):
                    await connection.quit()

    async def _pace(self) -> None:
        """Wait for the next of so many messages a minute."""
        now = asyncio.get_running_loop().time()
        self._slot = max(self._slot, now) + 60 / self._per_minute
        await asyncio.sleep(self._slot - 60 / self._per_minute - now)

    async def _do(
        self, transaction: Transaction, mail: Mail | None, connection: Connection | None
    ) -> tuple[Connection | None, _Begun | None]:
        """Deliver one, and begin the next; `mail` is there if this one was begun so. What is left of both."""
        is_new = connection is None
        if connection is None:
            connection = await self._connected(transaction)
            if connection is None:
                return None, None
        if self._reports:
            self._reports.used(connection, transaction.recipients)
        following: _Begun | None = None

        def follow() -> Mail | None:
            nonlocal following
            following = self._follow(transaction)
            return following and following[1]

        try:
            replies = await connection.deliver(mail or transaction.mail(), follow)
        except (Gone, Withdrawn) as error:
            self._end(transaction, transaction.replies(GONE) if isinstance(error, Gone) else None)
            return connection, None
        except Disconnected as error:
            connection.abort()
            if following:
                self._put_back(transaction, following[0])
            self._failed(transaction, error, is_new, connection)
            return None, None
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception as error:  # a fault of ours: the message is put off, and the others go on
            connection.abort()
            if following:
                self._put_back(transaction, following[0])
            self._fault(transaction, error)
            return None, None
        if is_new and replies[0].code == 421 and len(set(replies)) == 1 and self._try_next(connection):
            if following:
                self._put_back(transaction, following[0])
            self._again(transaction)
            return None, None
        if self._limit < self._most and self._load >= self._limit:
            self._limit += 1  # it takes what it gets, and there is more
        self._end(transaction, replies)
        return connection, following

    def _fault(self, transaction: Transaction, error: Exception) -> None:
        self._log(f"lane={self.destination.name} {error!r}")
        self._end(transaction, transaction.replies(Reply(UNREACHABLE, f"4.3.0 a fault of ours: {error!r}")))

    def _failed(
        self, transaction: Transaction, error: Disconnected, is_new: bool, connection: Connection
    ) -> None:
        """A connection failed under a message."""
        if type(error) is OutOfStep:
            self._whole = False  # it may have taken a text for commands
        if is_new and not self._held_here:
            self._limit = max(1, self._limit // 2)
        # One that was idle may have been closed meanwhile: no fault of the message.
        transaction.connection_failures += is_new
        is_partial = any(reply is not None for reply in error.known)
        if error.text_sent or is_partial or transaction.connection_failures >= MAX_FAILURES:
            # Behind the text it may have been taken, and goes again later, if at all.
            lost = Reply(UNREACHABLE, f"4.4.2 {error}")
            known = error.known or [None] * len(transaction.recipients)
            self._end(transaction, [lost if reply is None else reply for reply in known])
        else:
            if is_new:
                self._try_next(connection)
            self._again(transaction)

    def _again(self, transaction: Transaction) -> None:
        transaction.next_in_order = None
        self._waiting.appendleft(transaction)

    def _try_next(self, connection: Connection) -> bool:
        """Ask this mail server after the others from now on; False where there are no others left."""
        now = asyncio.get_running_loop().time()
        self._avoid = {name: until for name, until in self._avoid.items() if until > now}
        self._avoid[connection.name] = now + AVOIDED_SECONDS
        return bool(set(self.destination.hosts) - self._avoid.keys())

    def _follow(self, transaction: Transaction) -> _Begun | None:
        """What goes out right behind one: one that waits for its recipients, or for any connection."""
        while after := self._behind(transaction):
            try:
                return after, after.mail()
            except (Gone, Withdrawn) as error:
                replies = after.replies(GONE) if isinstance(error, Gone) else None
                if after is transaction.next_in_order:
                    transaction.next_in_order = None
                    self._load -= 1
                    self._tell(after, replies)  # what it would have held, the one before still holds
                else:
                    self._end(after, replies)
            except Exception:
                self._put_back(transaction, after)  # when it is its own turn, the fault is its own
                return None
        return None

    def _behind(self, transaction: Transaction) -> Transaction | None:
        if after := self._in_order.behind(transaction):
            return after
        if self._messages or self._per_minute:
            return None  # each is counted before it goes
        # As long as more connections may be opened, it goes out sooner on one of those.
        return self._waiting.popleft() if self._waiting and len(self._workers) >= self._limit else None

    def _put_back(self, transaction: Transaction, after: Transaction) -> None:
        """What was to follow another waits where it waited."""
        if after is transaction.next_in_order:
            transaction.next_in_order = None
            self._in_order.put_back(after)
        else:
            self._waiting.appendleft(after)

    async def _connected(self, transaction: Transaction) -> Connection | None:
        """A connection for it; without one, it is over."""
        try:
            connection = await self._connect()
        except Undeliverable as error:
            self._end(transaction, transaction.replies(Reply(error.code, error.text)))
        except Unwelcome as error:
            self._count(error, transaction)
            if len(self._workers) > 1 and not self.reachability.is_paused:  # it takes no further connection
                self._limit = len(self._workers) - 1
                self._waiting.appendleft(transaction)
            else:
                self._end(transaction, transaction.replies(_put_off_by(error)))
        except _Down:
            self._end(transaction, None)
            self._give_all_back()
        except Disconnected as error:
            self._count(error, transaction)
            self._end(transaction, transaction.replies(Reply(UNREACHABLE, f"4.4.1 {error}")))
        except Exception as error:  # a fault of ours
            self._fault(transaction, error)
        else:
            if not self._whole:
                connection.extensions.pop("CHUNKING", None)
            return connection
        return None

    async def _connect(self) -> Connection:
        """Raises Undeliverable, Unwelcome, _Down where mail is held here, or else Disconnected."""
        if self.reachability.is_paused:
            raise self.reachability.why.with_traceback(None)
        now = asyncio.get_running_loop().time()
        avoid = [name for name, until in self._avoid.items() if until > now]
        try:
            if self.reachability.is_down:
                async with self._connecting:  # one at a time while it is down
                    connection = await self.destination.connect(self._network, avoid)
            else:
                connection = await self.destination.connect(self._network, avoid)
        except Unwelcome as error:
            if len(self._workers) == 1 or isinstance(error, LoginRefused):
                self._leave_alone(error)
            raise
        except (Disconnected, LookupError, ValueError) as error:
            if not self._held_here:
                why = error if isinstance(error, Disconnected) else Disconnected(str(error))
                self._leave_alone(why)
                raise why from error
            self.reachability.tell(down=True, why=str(error))
            await asyncio.sleep(PROBE_SECONDS)
            raise _Down from error
        self.reachability.reached()
        return connection

    def _leave_alone(self, why: Disconnected | Unwelcome) -> None:
        if self.reachability.leave_alone(why) and not self._held_here:
            self._limit = 1

    def _count(self, error: Unwelcome | Disconnected, transaction: Transaction) -> None:
        """Attempts of which nothing came. One that is remembered for a while stands for no more of them."""
        if self._reports and error.sessions:
            self._reports.failed(error.sessions, transaction.recipients)
            error.sessions = ()


class _Down(Exception):
    """A destination for which mail is held here cannot be reached."""


def _put_off_by(refusal: Unwelcome) -> Reply:
    """What a message is told that was not even asked for. Never permanent: it is no fault of the message."""
    reply = refusal.reply
    code = reply.code if not reply.permanent else UNREACHABLE
    if isinstance(refusal, LoginRefused):
        return Reply(code, f"4.7.8 our login was refused: {reply}", urgent=True)
    return Reply(code, reply.text)
