"""In the order of system calls: all that was written for a message is synced before its acknowledgement."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Takes messages one after another, and says so on the standard output.
TAKING = """
import asyncio, os, sys, time
from pathlib import Path
from mailpods.spool.message import Envelope, Recipient
from mailpods.spool.spool import Spool
async def main():
    spool = Spool.open(Path(sys.argv[1]))
    for size in (10, 300_000) * 5:
        await spool.accept(Envelope("x@b.test", (Recipient("info@a.test"),), time.time()), b"x" * size)
        os.write(1, b"250 taken\\n")
    os._exit(0)
asyncio.run(main())
"""
CALLS = "openat,write,pwrite64,fsync,fdatasync"
CALL = re.compile(r"(\d+) +(\w+)\((?:AT_FDCWD[^,]*, \"([^\"]*)\", (\S+)|\d+<([^>]*)>)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.*= 0")


def unsynced(trace: str, spool: Path) -> list[set[str]]:
    """At each acknowledgement, the files and folders that were written and not synced since."""
    dirty, found, syncing = set[str](), list[set[str]](), dict[str, str]()
    for line in trace.splitlines():
        if resumed := RESUMED.match(line):
            if resumed[2] in ("fsync", "fdatasync"):
                dirty.discard(syncing.pop(resumed[1], ""))
            continue
        if not (call := CALL.match(line)):
            continue
        pid, name, opened, flags, path = call.groups()
        if name == "openat":
            if "O_CREAT" in flags and opened.startswith(str(spool / "bodies")):
                dirty.add(str(spool / "bodies"))
        elif name in ("fsync", "fdatasync"):
            if "unfinished" in line:
                syncing[pid] = path
            else:
                dirty.discard(path)
        elif "250 taken" in line:
            found.append(set(dirty))
        elif path.endswith("queue.db-wal") or path.startswith(str(spool / "bodies")):
            dirty.add(path)
    return found


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_what_is_acknowledged_is_synced(tmp_path: Path) -> None:
    trace, spool = tmp_path / "trace", tmp_path / "spool"
    command = ["strace", "-f", "-y", "-s", "16", "-e", f"trace={CALLS}", "-o", str(trace)]
    done = subprocess.run(
        [*command, sys.executable, "-c", TAKING, str(spool)], capture_output=True, text=True
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.stdout == "250 taken\n" * 10, done.stderr
    found = unsynced(trace.read_text(), spool)
    assert found == [set()] * 10
    text = trace.read_text()
    assert text.count("queue.db-wal>") > 20 and "/bodies/" in text  # the trace shows what it is about
