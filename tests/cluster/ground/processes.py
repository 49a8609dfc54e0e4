"""The cluster's processes: started in its network, known again by id and start time, ended by that alone."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mail_operator.local.processes import start_time

from tests.cluster.ground.places import LOGS, NETWORK, STATE

_PIDS = STATE / "pids"


def inside(*command: str) -> list[str]:
    """The command within the cluster's network. Not by `ip netns exec`, which hides the cgroups."""
    return ["nsenter", f"--net=/run/netns/{NETWORK}", *command]


def start(name: str, *command: str) -> None:
    """Start a process that outlives this one; its output goes to a log of its name."""
    with open(LOGS / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            inside(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _PIDS.mkdir(exist_ok=True)
    (_PIDS / name).write_text(f"{process.pid} {start_time(process.pid)}")


def running(name: str) -> int | None:
    """The id of a process that was started and still runs."""
    try:
        pid, started = (_PIDS / name).read_text().split()
    except FileNotFoundError:
        return None
    return int(pid) if str(start_time(int(pid))) == started else None


def end(name: str, seconds: float = 10) -> None:
    """End it, and what it left behind in its session."""
    pid = running(name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            wait(lambda: running(name) is None, seconds, name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    (_PIDS / name).unlink(missing_ok=True)


def names() -> list[str]:
    """All that were started, the last first."""
    if not _PIDS.exists():
        return []
    return [p.name for p in sorted(_PIDS.iterdir(), key=lambda path: -path.stat().st_mtime_ns)]


def wait(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask until it is so. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s; see {LOGS}")
        time.sleep(0.1)


def run(*command: str, check: bool = True, stdin: str | None = None) -> str:
    """Run to the end; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, input=stdin)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def write(path: Path, text: str) -> Path:
    """Write a configuration file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
