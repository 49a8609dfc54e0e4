"""One destination: its queue in memory, its few connections, used again, and what is done while it is down.

A store gets one message at a time for each mailbox: its Dovecot locks a mailbox for every delivery, and those
that find it locked look again only now and then. Twenty connections to one of 2.4 stored 5 messages a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mailpods.delivery import metrics
from mailpods.delivery.client import Connection, Disconnected, LoginRefused, Mail, Refusal, Reply
from mailpods.delivery.tls_reports import TlsReports
from mailpods.delivery.ways import Way
from mailpods.dns.resolver import Undeliverable

IDLE_SECONDS = 20.0  # until an unused connection to our own house, or its smarthost, is closed
IDLE_ABROAD_SECONDS = 3.0  # … to one of the many others, whose connections are not ours to keep
PROBE_SECONDS = 1.0  # between attempts to reach a destination that is down, for which mail waits here
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0  # seconds that another one is left alone once it is down
PATIENT_LOAD = 400  # messages that wait in a lane whose recipients take theirs one after another
MAX_BREAKS = 3  # connections that one message may break before it is put off
UNREACHABLE = 441  # our own code, for a destination that cannot be reached: always temporary


GONE = Reply(250, "gone")


class Gone(Exception):
    """An administrator deleted the message."""


@dataclass(eq=False)
class Job:
    """The copies of one message for one destination; `done` gets a reply for each recipient."""

    sender: str
    recipients: Sequence[str]
    body: Callable[[], bytes]  # read when it is its turn; raises KeyError if the message is gone
    done: Callable[[list[Reply]], None]
    eight_bit: bool = False
    utf8: bool = False
    breaks: int = field(default=0)
    heir: "Job | None" = field(default=None)  # goes right behind it, to its recipients

    def mail(self) -> Mail:
        """What a connection takes. Raises Gone."""
        try:
            body = self.body()
        except KeyError as error:
            raise Gone from error
        return Mail(self.sender, self.recipients, body, self.eight_bit, self.utf8)

    def replies(self, reply: Reply) -> list[Reply]:
        """The same one for each recipient."""
        return [reply] * len(self.recipients)


_Begun = tuple[Job, Mail]  # a job, a part of which was sent behind the one before


class Lane:
    """Delivers over one way."""

    def __init__(
        self,
        way: Way,
        log: Callable[[str], None],
        paused: Callable[[str, float, str], None] = lambda *_: None,
        reports: TlsReports | None = None,
    ) -> None:
        """`paused` is told for how many seconds the destination of this name is left alone, and why.

        `reports`: it leads to servers of others, for which TLS is counted.
        """
        self._way = way
        self._reports = reports
        self._paused = paused
        self.label, self.destination = way.label, way.name
        # Connections at a time: to servers of the world one at first, and more as they prove to take them.
        self._limit = way.connections if way.patient else 1
        self._load = 0  # jobs that are not done
        self._slot = 0.0  # when the next message may go, in the loop's time
        self._held: dict[str, deque[Job]] = {}  # recipients under way, and the jobs that wait for them
        self._log = log
        self._jobs: deque[Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[Job | None]] = []  # those that wait for a job, the last one first
        self._connecting = asyncio.Lock()
        self._down = False
        self._pause = FIRST_PAUSE
        self._until = 0.0  # nothing is tried before, in the loop's time
        self._why: Disconnected | Refusal = Disconnected("")  # not
        if way.patient:  # others come and go, and are too many
            metrics.UNREACHABLE.labels(way.label).set(0)

    @property
    def has_room(self) -> bool:
        """Whether another job would soon have its turn."""
        if asyncio.get_running_loop().time() < self._until:
            return False
        # Of two for each connection, one goes out right behind the other.
        return self._load < (PATIENT_LOAD if self._way.patient else 2 * self._limit)

    @property
    def connections(self) -> int:
        """How many are open, or being opened."""
        return len(self._workers)

    def put(self, job: Job) -> None:
        """Take a job; another connection is opened when all are busy."""
        self._load += 1
        self._admit(job)

    def _admit(self, job: Job) -> None:
        if self._way.exclusive:
            for recipient in job.recipients:
                if recipient in self._held:
                    self._held[recipient].append(job)
                    return
            self._held.update((recipient, deque()) for recipient in job.recipients)
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.cancelled():
                waiting.set_result(job)
                return
        self._jobs.append(job)
        if len(self._workers) < self._limit and (not self._down or not self._workers):
            self._employ()

    def _employ(self) -> None:
        task = asyncio.get_running_loop().create_task(self._work())
        self._workers.add(task)
        task.add_done_callback(self._left)

    def _left(self, worker: "asyncio.Task[None]") -> None:
        self._workers.discard(worker)
        if self._jobs and not self._workers and not worker.cancelled():
            self._employ()

    def _end(self, job: Job, replies: list[Reply]) -> None:
        """A job is over; the next ones for its recipients may go."""
        self._load -= 1
        if self._way.exclusive:
            kept = job.heir.recipients if job.heir else ()
            for recipient in job.recipients:
                if recipient in kept:
                    continue
                waiting = self._held.pop(recipient)
                while waiting and recipient not in self._held:  # one of several recipients may wait elsewhere
                    self._admit(waiting.popleft())
                if waiting:
                    self._held[recipient] = waiting
        job.done(replies)  # at last: it may put the next one

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be forgotten without it: no job, no connection, no pause."""
        return not self._workers and asyncio.get_running_loop().time() >= self._until

    async def close(self) -> None:
        """End the connections at once; jobs under way stay in the spool."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _next(self) -> Job | None:
        """The next job, or None when none came for a while, or when there are too many connections."""
        if len(self._workers) > self._limit and (worker := asyncio.current_task()):
            self._workers.discard(worker)  # at once, or all that look now would find one too many
            return None
        if self._jobs:
            return self._jobs.popleft()
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Job | None] = loop.create_future()
        self._idle.append(waiting)
        seconds = IDLE_SECONDS if self._way.patient else IDLE_ABROAD_SECONDS
        timer = loop.call_later(seconds, self._give_up, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()

    def _give_up(self, waiting: "asyncio.Future[Job | None]") -> None:
        if waiting in self._idle:  # else it was given a job this very moment
            self._idle.remove(waiting)
            waiting.set_result(None)

    async def _work(self) -> None:
        connection: Connection | None = None
        count = 0  # messages over this connection
        try:
            job, mail = await self._next(), None
            while job:
                if connection is None:
                    count = 0
                elif self._way.messages and count >= self._way.messages:
                    await connection.quit()
                    connection, count = None, 0
                if self._way.per_minute:
                    await self._pace()
                connection, following = await self._do(job, mail, connection)
                count += 1
                job, mail = following or (await self._next(), None)
        finally:
            if connection:
                with suppress(Disconnected):
                    await connection.quit()

    async def _pace(self) -> None:
        """Wait for the next of so many messages a minute."""
        now = asyncio.get_running_loop().time()
        self._slot = max(self._slot, now) + 60 / self._way.per_minute
        await asyncio.sleep(self._slot - 60 / self._way.per_minute - now)

    async def _do(
        self, job: Job, mail: Mail | None, connection: Connection | None
    ) -> tuple[Connection | None, _Begun | None]:
        """Deliver one, and begin the next; `mail` is there if this one was begun so. What is left of both."""
        reused = connection is not None
        try:
            connection = connection or await self._connect()
        except Undeliverable as error:
            self._end(job, job.replies(Reply(error.code, error.text)))
            return None, None
        except Refusal as error:
            self._count(error, job)
            paused = asyncio.get_running_loop().time() < self._until
            if len(self._workers) > 1 and not paused:  # it takes no further connection
                self._limit = len(self._workers) - 1
                self._jobs.appendleft(job)
            else:
                self._end(job, job.replies(_put_off_by(error)))
            return None, None
        except Disconnected as error:
            self._count(error, job)
            self._end(job, job.replies(Reply(UNREACHABLE, f"4.4.1 {error}")))
            return None, None
        if self._reports:
            self._reports.used(connection, job.recipients)
        following: _Begun | None = None

        def follow() -> Mail | None:
            nonlocal following
            following = self._follow(job)
            return following and following[1]

        try:
            replies = await connection.deliver(mail or job.mail(), follow)
        except Gone:
            self._end(job, job.replies(GONE))
            return connection, None
        except Disconnected as error:
            connection.abort()
            if following:
                self._give_back(job, following[0])
            # A connection that was idle may have been closed meanwhile: no fault of the message.
            job.breaks += 0 if reused else 1
            if not (reused or self._way.patient):
                self._limit = max(1, self._limit // 2)
            if job.breaks >= MAX_BREAKS:
                self._end(job, job.replies(Reply(UNREACHABLE, f"4.4.2 {error}")))
            else:
                self._jobs.appendleft(job)
            return None, None
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception as error:  # a fault of ours: the message is put off, and the lane goes on
            connection.abort()
            if following:
                self._give_back(job, following[0])
            self._log(f"lane={self._way.name} {error!r}")
            self._end(job, job.replies(Reply(UNREACHABLE, f"4.3.0 {error!r}")))
            return None, None
        if self._limit < self._way.connections and self._load >= self._limit:
            self._limit += 1  # it takes what it gets, and there is more
        self._end(job, replies)
        return connection, following

    def _count(self, error: Refusal | Disconnected, job: Job) -> None:
        """Attempts of which nothing came. One that is remembered for a while stands for no more of them."""
        if self._reports and error.sessions:
            self._reports.failed(error.sessions, job.recipients)
            error.sessions = ()

    def _follow(self, job: Job) -> _Begun | None:
        """What goes out right behind a job: one that waits for its recipients, or for any connection."""
        while after := self._behind(job):
            try:
                return after, after.mail()
            except Gone:
                if after is job.heir:
                    job.heir = None
                    self._load -= 1
                    after.done(after.replies(GONE))  # what it would have held, the job still holds
                else:
                    self._end(after, after.replies(GONE))
            except Exception:
                self._give_back(job, after)  # when it is its own turn, the fault is its own
                return None
        return None

    def _behind(self, job: Job) -> Job | None:
        for recipient in job.recipients if self._way.exclusive else ():
            waiting = self._held[recipient]
            if waiting and set(waiting[0].recipients) <= set(job.recipients):
                job.heir = waiting.popleft()
                return job.heir
        if self._way.messages or self._way.per_minute:
            return None  # each is counted before it goes
        # As long as more connections may be opened, it goes out sooner on one of those.
        return self._jobs.popleft() if self._jobs and len(self._workers) >= self._limit else None

    def _give_back(self, job: Job, after: Job) -> None:
        """What was to follow a job waits where it waited."""
        if after is job.heir:
            job.heir = None
            self._held[after.recipients[0]].appendleft(after)
        else:
            self._jobs.appendleft(after)

    async def _connect(self) -> Connection:
        """Raises Undeliverable, Refusal, and, where mail does not wait here, Disconnected."""
        while True:
            if asyncio.get_running_loop().time() < self._until:
                raise self._why.with_traceback(None)
            try:
                if self._down:
                    async with self._connecting:  # one at a time while it is down
                        connection = await self._way.connect()
                else:
                    connection = await self._way.connect()
            except Refusal as error:
                if len(self._workers) == 1 or isinstance(error, LoginRefused):
                    self._leave_alone(error)
                raise
            except (Disconnected, LookupError, ValueError) as error:
                if not self._way.patient:
                    why = error if isinstance(error, Disconnected) else Disconnected(str(error))
                    self._leave_alone(why)
                    raise why from error
                self._tell(down=True, why=str(error))
                await asyncio.sleep(PROBE_SECONDS)
            else:
                self._until, self._pause = 0.0, FIRST_PAUSE
                self._tell(down=False)
                return connection

    def _leave_alone(self, why: Disconnected | Refusal) -> None:
        """Nothing is tried for a while, which grows."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:  # or else somebody who tried at the same time has said so
            self._why, self._limit = why, self._limit if self._way.patient else 1
            self._until = now + self._pause
            self._paused(self._way.name, self._pause, str(why))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._log(f"unreachable lane={self._way.name} {why}")

    def _tell(self, down: bool, why: str = "") -> None:
        """Whether a destination for which mail waits here can be reached."""
        if self._way.patient and down is not self._down:
            self._down = down
            metrics.UNREACHABLE.labels(self._way.label).set(down)
            self._log(f"{'unreachable' if down else 'reachable again'} lane={self._way.name} {why}".strip())


def _put_off_by(refusal: Refusal) -> Reply:
    """What a message is told that was not even asked for. Never permanent: it is no fault of the message."""
    reply = refusal.reply
    code = reply.code if not reply.permanent else UNREACHABLE
    if isinstance(refusal, LoginRefused):
        return Reply(code, f"4.7.8 our login was refused: {reply}", urgent=True)
    return Reply(code, reply.text)
