"""Writes the files that Dovecot watches, so that it never misses a change."""

import os
import time
from pathlib import Path


def write(path: Path, data: bytes) -> bool:
    """Replace the file's content atomically. Returns whether it differed.

    Dovecot tells a new passwd-file by size and whole-second mtime: of two changes of equal size within one
    second it would miss the second, and keep the old password for good. So each gets a later second.
    """
    try:
        if path.read_bytes() == data:
            return False
        earliest = int(path.stat().st_mtime) + 1
    except FileNotFoundError:
        earliest = 0
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    mtime = max(int(time.time()), earliest)
    os.utime(temporary, (mtime, mtime))
    os.rename(temporary, path)
    return True


def noticed_at(written: float) -> float:
    """When Dovecot surely uses a file written then: it looks once in each second of the clock."""
    return int(written) + 1.05
