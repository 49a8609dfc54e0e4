"""A container as a process: started, started again when it ends, and ended with its children."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mail_operator.local.files import make_folder

BACKOFF_SECONDS = (0.2, 0.5, 1, 2, 5, 10)
_LONGEST_WORDS = 300  # of a log, in a message
STEADY_SECONDS = 30  # a process that lived this long starts the backoff anew


class Process:
    """One command, kept running. `tick()` is called a few times a second and never blocks."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path, grace_seconds: float
    ) -> None:
        self.name = name
        self.restarts = 0
        self.trouble = ""  # why it ended last, for a person: the program, its restarts, its last words
        self._command, self._env, self._log = command, env, log
        self._grace = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._next_start = 0.0
        self._kill_at: float | None = None  # set once it was told to end

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def tick(self) -> None:
        """Start it if it is due."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            if self._kill_at is not None:
                return
            self._end_children()
            self._process = None
            self._failed(now, _last_line(self._log) or "it says nothing in its log")
        if self._process is None and self._kill_at is None and now >= self._next_start:
            try:
                self._start(now)
            except OSError as error:  # the program is not there, the log cannot be written
                self._failed(now, f"cannot be started: {error}")

    def _failed(self, now: float, words: str) -> None:
        self.restarts += 1
        self._failures = 0 if now - self._started > STEADY_SECONDS else self._failures + 1
        self._next_start = now + BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self.trouble = f"{self.name.rpartition('/')[2]} restarted {self.restarts} times: {words}"

    def _start(self, now: float) -> None:
        make_folder(self._log.parent)
        # Logs name people's addresses; one of an earlier version was for all to read.
        with open(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640), "ab") as log:
            os.fchmod(log.fileno(), 0o640)
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we then end our pods in order
            )
        self._started = now

    def terminate(self) -> None:
        """Ask it to end; after its grace period it is killed by `ended()`."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._grace
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has ended, after terminate(). Kills it when its time is over."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            if self._kill_at is None or time.monotonic() < self._kill_at:
                return False
            self._end_children()
            self._process.wait()
        self._end_children()
        return True

    def _end_children(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _last_line(log: Path) -> str:
    """The last words of a log, as far as they can be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "").strip()
    return "".join(c for c in last if c.isprintable())[:_LONGEST_WORDS]


def start_time(pid: int) -> int | None:
    """When the process started; None if there is none of this id."""
    # In clock ticks since boot (proc(5)): tells a process from a later one that was given the same id.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19])


def record(pids: list[int]) -> bytes:
    """What `end_leftovers()` needs to know these processes again."""
    return "".join(f"{pid} {start_time(pid)}\n" for pid in sorted(pids)).encode()


def end_leftovers(recorded: bytes) -> int:
    """Kill the recorded processes that outlived a killed runner, with their groups. Returns how many."""
    ended = 0
    for line in recorded.decode().splitlines():
        pid, started = line.split()
        if str(start_time(int(pid))) == started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)
                ended += 1
    return ended
