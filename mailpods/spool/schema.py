"""The tables of a spool: each column stands here, once; statements and records are made of these lists."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MOST_WOKEN = 100_000  # messages that are remembered to be woken


class Column(NamedTuple):
    """A column, and its declaration in SQL. One with a default is added to tables of older versions."""

    name: str
    declaration: str


# The fields of an Envelope but its recipients, in their order.
ENVELOPE = (
    Column("sender", "TEXT NOT NULL"),
    Column("received_at", "REAL NOT NULL"),
    Column("client_ip", "TEXT NOT NULL"),
    Column("helo", "TEXT NOT NULL"),
    Column("protocol", "TEXT NOT NULL"),
    Column("account", "TEXT"),
    Column("smtputf8", "INTEGER NOT NULL"),
    Column("body_8bit", "INTEGER NOT NULL"),
    Column("campaign", "TEXT NOT NULL DEFAULT ''"),
    Column("ret", "TEXT NOT NULL DEFAULT ''"),
    Column("envid", "TEXT NOT NULL DEFAULT ''"),
)
MESSAGE = (
    Column("id", "TEXT NOT NULL UNIQUE"),
    *ENVELOPE,
    Column("warned", "INTEGER NOT NULL DEFAULT 0"),  # 1: its sender knows that it waits
    Column("size", "INTEGER NOT NULL"),
)
RECIPIENT = (
    Column("address", "TEXT NOT NULL"),
    Column("notify", "TEXT"),
    Column("orcpt", "TEXT"),
    Column("attempts", "INTEGER NOT NULL DEFAULT 0"),
    Column("next_try", "REAL NOT NULL"),
    Column("reply", "TEXT NOT NULL DEFAULT ''"),  # the last one, for people
    Column("reserved", "INTEGER NOT NULL DEFAULT 0"),  # 1: next_try is the time that a limit gave it
)
# The fields of an Event, in their order.
EVENT = (
    Column("at", "REAL NOT NULL"),
    Column("id", "TEXT NOT NULL"),
    Column("sender", "TEXT NOT NULL"),
    Column("recipient", "TEXT NOT NULL"),
    Column("campaign", "TEXT NOT NULL"),
    Column("kind", "TEXT NOT NULL"),
    Column("class", "TEXT NOT NULL"),
    Column("reply", "TEXT NOT NULL"),
)


def names(columns: Iterable[Column], table: str = "") -> str:
    """Their names for a statement, of a table's alias where one is given."""
    return ", ".join(f"{table}.{column.name}" if table else column.name for column in columns)


def insert(table: str, columns: Iterable[Column], *others: str) -> str:
    """The statement that inserts a row of these columns and those of the names `others`."""
    all_names = [column.name for column in columns] + list(others)
    return f"INTO {table} ({', '.join(all_names)}) VALUES ({', '.join('?' * len(all_names))})"


def _declared(columns: Iterable[Column]) -> str:
    return ", ".join(f"{column.name} {column.declaration}" for column in columns)


INSERT_EVENT = f"INSERT {insert('event', EVENT)}"

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS message (
    number INTEGER PRIMARY KEY, {_declared(MESSAGE)},
    body BLOB  -- NULL: in the file named by id
);
CREATE TABLE IF NOT EXISTS recipient (
    message INTEGER NOT NULL REFERENCES message(number) ON DELETE CASCADE, {_declared(RECIPIENT)},
    PRIMARY KEY (message, address)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipient_next_try ON recipient (next_try);
CREATE TABLE IF NOT EXISTS woken (  -- messages that others than the writer made due, in the order of commits
    number INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS adopted (  -- messages of other spools that were taken, and when
    id TEXT PRIMARY KEY, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paused (  -- destinations that are left alone, for people
    destination TEXT PRIMARY KEY, until REAL NOT NULL, why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (  -- what became of mass mailings, for their senders' programs
    number INTEGER PRIMARY KEY AUTOINCREMENT, {_declared(EVENT)}
);
CREATE TABLE IF NOT EXISTS sent (  -- what the bulk pool sends on a day, by who sends it
    day TEXT NOT NULL, tenant TEXT NOT NULL, recipients INTEGER NOT NULL, PRIMARY KEY (day, tenant)
) WITHOUT ROWID;
"""
_GROWN = {"message": MESSAGE, "recipient": RECIPIENT}


def connect(file: Path) -> sqlite3.Connection:
    """A connection of the spool's own process. Raises sqlite3.Error."""
    database = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
    database.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file alone; before anything else
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA foreign_keys=ON")
    # Debian's SQLite overwrites what is deleted: to give N bytes free it would write N more.
    database.execute("PRAGMA secure_delete=OFF")
    return database


def prepare(database: sqlite3.Connection) -> None:
    """Make the tables, and add to those of an older version what they lack."""
    database.executescript(_SCHEMA)
    for table, columns in _GROWN.items():
        there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        for column in columns:
            if column.name not in there:
                database.execute(f"ALTER TABLE {table} ADD COLUMN {column.name} {column.declaration}")
    # The schedule is read from its beginning after each start: nothing needs waking.
    database.execute("DELETE FROM woken")
    (mode,) = database.execute("PRAGMA auto_vacuum").fetchone()
    if mode == 0 and not database.execute("SELECT 1 FROM message LIMIT 1").fetchone():
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("VACUUM")  # of an older version: from now on it gives back what it does not need


def wake(database: sqlite3.Connection, messages: str) -> None:
    """Say within a transaction that these messages (their numbers, as JSON) may be due by its commit: those
    that read by time may have read past it then."""
    database.execute("INSERT INTO woken (message) SELECT value FROM json_each(?)", (messages,))
    database.execute("DELETE FROM woken WHERE number <= (SELECT max(number) FROM woken) - ?", (MOST_WOKEN,))
