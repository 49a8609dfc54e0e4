"""Small databases that the processes and threads of a pod share."""

import sqlite3
import time
from pathlib import Path

WAIT_SECONDS = 10.0  # for others who are at it


def connect(path: Path) -> sqlite3.Connection:
    """A connection, in WAL mode, in which each statement is a transaction. Raises sqlite3.Error."""
    database = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return database
        except sqlite3.OperationalError as error:
            # Several that open a new database change its mode at once: for that alone, SQLite does not wait.
            if "locked" not in str(error) or time.monotonic() > end:
                database.close()
                raise
            time.sleep(0.01)
