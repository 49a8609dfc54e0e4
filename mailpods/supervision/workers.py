"""A program of several worker processes: starts them, hears of them, and starts those that die again."""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

RESTART_SECONDS = 1.0
SILENCE_SECONDS = 15.0  # after which a worker counts as hung


@dataclass
class Worker:
    """A running worker, and what it last said."""

    pid: int
    report: socket.socket
    buffer: bytes = b""
    state: dict[str, Any] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)

    @property
    def hung(self) -> bool:
        """Whether it has been silent for too long."""
        return time.monotonic() - self.heard > SILENCE_SECONDS


class Workers:
    """`work` is the life of a worker, by its number and the socket on which it reports its state, a line of
    JSON each time; `gone` is told of one that ended, by number and process id."""

    def __init__(
        self,
        count: int,
        work: Callable[[int, socket.socket], None],
        gone: Callable[[int, int], None],
        log: Callable[[str], None],
    ) -> None:
        self._count, self._work, self._gone, self._log = count, work, gone, log
        self._workers: dict[int, Worker] = {}
        self.stopping = False

    @property
    def running(self) -> Collection[Worker]:
        """Those that run now; from any thread."""
        return list(self._workers.values())

    def start(self) -> None:
        """Start all; call run() next."""
        for number in range(self._count):
            self._start(number)

    def run(self) -> None:
        """Look after them; returns when all have ended after stop()."""
        while self._workers:
            self._listen()
            self._reap()

    def stop(self) -> None:
        """Tell all to end (SIGTERM); may be called by a signal."""
        self.stopping = True
        for each in self._workers.values():
            os.kill(each.pid, signal.SIGTERM)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                for name in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(name, signal.SIG_DFL)
                self._work(number, theirs)
                status = 0
            except SystemExit:
                pass
            except BaseException as error:
                self._log(f"worker {number} failed: {error!r}")
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        self._workers[number] = Worker(pid, ours)

    def _listen(self) -> None:
        by_socket = {each.report: each for each in self._workers.values()}
        readable, _, _ = select.select(list(by_socket), [], [], 0.2)
        for ready in readable:
            each = by_socket[ready]
            try:
                each.buffer += ready.recv(1 << 20)
            except OSError:
                continue
            *lines, each.buffer = each.buffer.split(b"\n")
            if lines:
                each.state, each.heard = json.loads(lines[-1]), time.monotonic()

    def _reap(self) -> None:
        for number, each in list(self._workers.items()):
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if not pid:
                continue
            each.report.close()
            del self._workers[number]
            self._gone(number, pid)
            if not self.stopping:
                self._log(f"worker {number} ended (status {status}); another one is started")
                time.sleep(RESTART_SECONDS)
                if not self.stopping:
                    self._start(number)
