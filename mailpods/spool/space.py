"""How much room there is for mail: what the volume has left, and the pages that the database keeps free."""

import os
import sqlite3
import time
from pathlib import Path

from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.errors import SpoolFull

RESERVE_BYTES = 64 * 1024 * 1024  # left free for delivery's own writes
LOG_BYTES = 16 * 1024 * 1024  # of these on the volume itself: what is written goes through the log first
BALLAST_BYTES = 1024 * 1024  # in a file that is given up when others filled the disk to the last byte
CHECK_SECONDS = 1.0  # between looks at the free space


def free_bytes(folder: Path, database: sqlite3.Connection, size: int = 0) -> int:
    """What is left for mail, 0 or less for nothing. `size`: of the message that is to come."""
    disk = os.statvfs(folder)
    volume = disk.f_bavail * disk.f_frsize
    if size > INLINE_BYTES:
        return volume - RESERVE_BYTES  # a file takes no pages of the database
    pages: int = database.execute("PRAGMA freelist_count").fetchone()[0]
    page: int = database.execute("PRAGMA page_size").fetchone()[0]
    return min(volume - min(LOG_BYTES, RESERVE_BYTES), volume + pages * page - RESERVE_BYTES)


class Space:
    """Looks now and then, and sets some aside: without, a disk that is full to the last byte stays so."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self._folder, self._database = folder, database
        self._ballast = folder / "ballast"
        self._ballast_gone = True
        self._next_check = 0.0
        self._left = self._left_for_files = 0
        self._take_ballast()

    def check(self, size: int) -> None:
        """Raises SpoolFull where a message of so many bytes finds no room."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            self._left = free_bytes(self._folder, self._database)
            self._left_for_files = free_bytes(self._folder, self._database, INLINE_BYTES + 1)
            if self._ballast_gone and self._left > 0:
                self._take_ballast()
        left = self._left if size <= INLINE_BYTES else self._left_for_files
        if left < size or self._ballast_gone:
            raise SpoolFull("no space is left for mail")

    def _take_ballast(self) -> None:
        try:
            with open(self._ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
            self._ballast_gone = False
        except OSError:
            self._ballast.unlink(missing_ok=True)

    def give_up_ballast(self) -> None:
        """The disk is full: what delivery has to note needs the room."""
        self._ballast_gone = True
        self._ballast.unlink(missing_ok=True)
