"""One destination: its queue in memory, its few connections, used again, and its patience when down.

A store gets one message at a time for each mailbox: its Dovecot locks a mailbox for every delivery, and those
that find it locked look again only now and then. Twenty connections to one of 2.4 stored 5 messages a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mailpods.delivery import metrics
from mailpods.delivery.client import Connection, Disconnected, Refusal, Reply, Target

CONNECTIONS = 10  # of one destination: more do not make Dovecot faster
IDLE_SECONDS = 20.0  # until an unused connection is closed
PROBE_SECONDS = 1.0  # between attempts to reach a destination that is down
MAX_BREAKS = 3  # connections that one message may break before it is put off
UNREACHABLE = 441  # our own code, for a destination that cannot be reached: always temporary


@dataclass
class Job:
    """The copies of one message for one destination; `done` gets a reply for each recipient."""

    sender: str
    recipients: Sequence[str]
    body: Callable[[], bytes]  # read when it is its turn; raises KeyError if the message is gone
    done: Callable[[list[Reply]], None]
    options: str = ""
    breaks: int = field(default=0)


class Lane:
    """Delivers to one target, which is asked for at each connect, for it may move."""

    def __init__(
        self, name: str, target: Callable[[], Target], log: Callable[[str], None], *, exclusive: bool
    ) -> None:
        """`exclusive`: one job at a time for each recipient."""
        self.name = name
        self._exclusive = exclusive
        self._held: dict[str, deque[Job]] = {}  # recipients under way, and the jobs that wait for them
        self._target = target
        self._log = log
        self._jobs: deque[Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[Job | None]] = []  # those that wait for a job, the last one first
        self._connecting = asyncio.Lock()
        self._down = False
        metrics.UNREACHABLE.labels(name).set(0)

    def put(self, job: Job) -> None:
        """Take a job; another connection is opened when all are busy."""
        if self._exclusive:
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
        if len(self._workers) < CONNECTIONS and (not self._down or not self._workers):
            task = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    def _end(self, job: Job, replies: list[Reply]) -> None:
        """A job is over; the next ones for its recipients may go."""
        job.done(replies)
        if self._exclusive:
            for recipient in job.recipients:
                waiting = self._held.pop(recipient)
                while waiting and recipient not in self._held:  # one of several recipients may wait elsewhere
                    self.put(waiting.popleft())
                if waiting:
                    self._held[recipient] = waiting

    async def close(self) -> None:
        """End the connections at once; jobs under way stay in the spool."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _next(self) -> Job | None:
        """The next job, or None when none came for a while."""
        if self._jobs:
            return self._jobs.popleft()
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Job | None] = loop.create_future()
        self._idle.append(waiting)
        timer = loop.call_later(IDLE_SECONDS, self._give_up, waiting)
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
        try:
            while job := await self._next():
                connection = await self._do(job, connection)
        finally:
            if connection:
                with suppress(Disconnected):
                    await connection.quit()

    async def _do(self, job: Job, connection: Connection | None) -> Connection | None:
        reused = connection is not None
        try:
            connection = connection or await self._connect()
        except Refusal as error:
            code = error.reply.code if not error.reply.permanent else UNREACHABLE
            self._end(job, [Reply(code, error.reply.text)] * len(job.recipients))
            return None
        try:
            body = job.body()
        except KeyError:
            self._end(job, [Reply(250, "gone")] * len(job.recipients))  # an administrator deleted it
            return connection
        try:
            replies = await connection.deliver(job.sender, job.recipients, body, job.options)
        except Disconnected as error:
            connection.abort()
            # A connection that was idle may have been closed meanwhile: no fault of the message.
            job.breaks += 0 if reused else 1
            if job.breaks >= MAX_BREAKS:
                self._end(job, [Reply(UNREACHABLE, f"4.4.2 {error}")] * len(job.recipients))
            else:
                self._jobs.appendleft(job)
            return None
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Exception as error:  # a fault of ours: the message is put off, and the lane goes on
            connection.abort()
            self._log(f"lane={self.name} {error!r}")
            self._end(job, [Reply(UNREACHABLE, f"4.3.0 {error!r}")] * len(job.recipients))
            return None
        self._end(job, replies)
        return connection

    async def _connect(self) -> Connection:
        """Try until the destination answers. One at a time while it is down. Raises Refusal."""
        while True:
            if self._down:
                async with self._connecting:
                    connection = await self._attempt()
            else:
                connection = await self._attempt()
            if connection:
                return connection
            await asyncio.sleep(PROBE_SECONDS)

    async def _attempt(self) -> Connection | None:
        try:
            connection = await Connection.open(self._target())
        except (Disconnected, LookupError, ValueError) as error:
            if not self._down:
                self._down = True
                metrics.UNREACHABLE.labels(self.name).set(1)
                self._log(f"unreachable lane={self.name} {error}")
            return None
        if self._down:
            self._down = False
            metrics.UNREACHABLE.labels(self.name).set(0)
            self._log(f"reachable again lane={self.name}")
        return connection
