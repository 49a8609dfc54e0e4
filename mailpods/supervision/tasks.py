"""Tasks without which a process is of no use: the end of one is the end of the process, and is told."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any


class VitalTasks:
    """Those of one process; each is meant to run until it is cancelled."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()  # one of them has, though nobody cancelled it

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin one; `name` is for the log."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def fail(self, why: str) -> None:
        """Something else without which nothing works has ended."""
        self._log(f"nothing works any more: {why}")
        self.ended.set()

    def cancel(self) -> None:
        """Stop all."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        why = "".join(traceback.format_exception(error)).strip() if error else "it returned"
        self._log(f"{task.get_name()} ended, and nothing works without it: {why!r}")
        self.ended.set()
