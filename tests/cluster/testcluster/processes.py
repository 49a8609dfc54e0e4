"""Starts the cluster's processes so that they outlive this one, and ends those and no others."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.testcluster.network import inside
from tests.cluster.testcluster.places import CHECKOUT, LocalCluster


def start(
    local_cluster: LocalCluster, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
) -> None:
    """Start a process inside the namespace, unless it runs; its output goes to `logs/NAME.log`."""
    if running(local_cluster, name):
        return
    for folder in ("logs", "pids"):
        (local_cluster.root / folder).mkdir(exist_ok=True)
    with (local_cluster.root / "logs" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*inside(local_cluster), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CHECKOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    _note(local_cluster, name).write_text(f"{process.pid} {_started(process.pid)}")


def running(local_cluster: LocalCluster, name: str) -> bool:
    """Whether the process that was started under this name still runs."""
    return _pid(_note(local_cluster, name)) is not None


def send(local_cluster: LocalCluster, name: str, number: int) -> None:
    """Send a signal to the process that was started under this name. Raises LookupError if none runs."""
    pid = _pid(_note(local_cluster, name))
    if pid is None:
        raise LookupError(f"{name} does not run")
    os.kill(pid, number)


def stop(local_cluster: LocalCluster, *names: str, seconds: float = 5) -> None:
    """End processes, all at once: ask them, and kill those that have not ended after `seconds`."""
    notes = [_note(local_cluster, name) for name in names]
    for signal_number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        for note in notes:
            if (pid := _pid(note)) is not None:
                os.kill(pid, signal_number)
        deadline = time.monotonic() + patience
        while any(_pid(note) for note in notes) and time.monotonic() < deadline:
            time.sleep(0.05)
    for note in notes:
        note.unlink(missing_ok=True)


def started(local_cluster: LocalCluster) -> list[str]:
    """The names of all processes that were started and not stopped, the oldest first."""
    notes = (local_cluster.root / "pids").glob("*")
    return [note.name for note in sorted(notes, key=lambda note: note.stat().st_mtime_ns)]


def shims(local_cluster: LocalCluster) -> list[int]:
    """The process ids of what containerd leaves to each pod: they name its socket in their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if b"shim" in arguments[0] and str(local_cluster.containerd_socket).encode() in arguments:
            found.append(int(folder.name))
    return found


def _note(local_cluster: LocalCluster, name: str) -> Path:
    return local_cluster.root / "pids" / name


def _pid(note: Path) -> int | None:
    """The process of a note, if it runs. A process id alone may have become another's."""
    try:
        pid, since = note.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _started(int(pid)) == since else None


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it does not run, or waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
