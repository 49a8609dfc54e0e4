"""Servers under measurement: started, timed, and ended by the run itself."""

import os
import socket
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, seconds: float = 30) -> None:
    """Wait until something listens and talks. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as client:
                client.settimeout(2)
                if client.recv(1):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers on port {port}")


def family(root: int) -> dict[int, float]:
    """A process and its descendants: the CPU seconds of each, with those of children it waited for."""
    stats: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            stats[int(entry.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICK)
    tree = {root}
    while more := {pid for pid, (parent, _) in stats.items() if parent in tree} - tree:
        tree |= more
    return {pid: stats[pid][1] for pid in tree if pid in stats}


def cpu_seconds(root: int) -> float:
    """CPU that a process, its descendants, and those of them that ended and were waited for have used."""
    return sum(family(root).values())


def memory_bytes(root: int) -> int:
    """Proportional set size of a process and its descendants: what is shared counts once."""
    total = 0
    for pid in family(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
