"""Runs the engine on one machine: manifests -> Plan -> processes, and what they acknowledged -> statuses."""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mail_operator.engine.engine import Engine
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.manifests import Manifests
from mail_operator.local.observed import ObservedState
from mail_operator.local.pods import Pods
from mail_operator.local.ports import Ports
from mail_operator.local.runtime import LocalRuntime
from mail_operator.local.state import DataFolder


class Runner:
    """`run()` it; `stop()` it from anywhere. `on_shown` is called when a person would see something else."""

    def __init__(
        self,
        paths: list[Path],
        data: DataFolder,
        ports: Ports,
        user: str | None,
        on_shown: Callable[[], None] = lambda: None,
    ) -> None:
        self.observed = ObservedState(
            Manifests(paths), data.state, one_server=True, last_good=data.last_good()
        )
        self.pods = Pods(data.path, ports, user)
        self.runtime = LocalRuntime(self.observed, data, self.pods, ports, log)
        self.runtime.shown = on_shown
        self.engine = Engine(self.runtime, log)
        self._stopping = threading.Event()
        self._wake: Callable[[], None] = lambda: None

    @property
    def statuses(self) -> Mapping[ObjectRef, Mapping[str, Any]]:
        """What every object says."""
        return self.runtime.statuses

    def stop(self) -> None:
        """Have `run()` end. From any thread, or a handler of signals."""
        self._stopping.set()
        with suppress(RuntimeError):  # it has ended already
            self._wake()

    async def run(self) -> None:
        """Until it is stopped or fails; returns, or raises, when all pods have ended."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(stop.set)

        self._wake = wake
        if self._stopping.is_set():
            stop.set()
        tasks = [asyncio.create_task(self.engine.run()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await self.runtime.drain()
        if isinstance(ended[0], Exception):
            raise ended[0]


def log(text: str) -> None:
    """For the person at the terminal."""
    print(f"mailpods: {text}", file=sys.stderr, flush=True)
