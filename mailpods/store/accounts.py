"""The accounts as Dovecot asks for them: in SQLite, written by differences, each time in one transaction.

Dovecot asks at each login, so what is committed counts at once; what fails, on a full disk or in a torn
file, leaves the accounts as they were. A service that is off finds nobody; one for the LAN alone has
`allow_nets`, judged by the client's address. A login of another shard is passed on as it came: the shard
that owns the mailbox judges it, and its hash stays away from here.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mailpods.directory.records import AccountId, Credential, Credentials, Service, StoreSettings

SERVICES: tuple[Service, ...] = ("imap", "pop3", "sieve", "smtp")
QUOTA = {(2, 3): "'*:bytes=' || quota AS quota_rule", (2, 4): "quota || 'B' AS quota_storage_size"}
_SCHEMA_VERSION = 1
_SCHEMA = f"""
    PRAGMA user_version = {_SCHEMA_VERSION};
    -- shard: NULL if it is served here. hash: NULL locks it.
    CREATE TABLE account (
        id TEXT PRIMARY KEY, hash TEXT, shard INTEGER, mailbox INTEGER NOT NULL, address TEXT, quota INTEGER,
        {", ".join(f"{service} TEXT NOT NULL" for service in SERVICES)}
    ) WITHOUT ROWID;
    CREATE TABLE login (login TEXT, account TEXT, PRIMARY KEY (login, account)) WITHOUT ROWID;
    -- Where the logins of another shard go.
    CREATE TABLE endpoint (
        shard INTEGER, service TEXT, host TEXT NOT NULL, port INTEGER NOT NULL, PRIMARY KEY (shard, service)
    ) WITHOUT ROWID;
    CREATE TABLE setting (lan TEXT NOT NULL, redirects INTEGER NOT NULL);
"""
_WAL_BYTES = 4 << 20  # to which the log is cut when its pages are in the database

Version = tuple[int, int]
Endpoint = tuple[str, int]  # host and port
_Settings = tuple[str, bool, Sequence[tuple[int, Service, str, int]]]


def password_query(user: str, service: str) -> str:
    """What Dovecot asks at a login; both are its variables, which it quotes. The owner asks for the password
    of what is passed on; the way there is encrypted, and its certificate names the public host."""
    # CROSS JOIN: the login first, whatever the planner thinks, for it may look through all accounts in order.
    access = " ".join(f"WHEN '{each}' THEN {each}" for each in SERVICES)
    return (
        f"WITH asked AS (SELECT id, hash, shard, CASE '{service}' {access} ELSE 'off' END AS access"
        f" FROM login CROSS JOIN account ON id = account WHERE login = '{user}')"
        " SELECT hash AS password, iif(host IS NULL, id, NULL) AS user,"
        " iif(host IS NULL AND access = 'lan', lan, NULL) AS allow_nets,"
        " iif(host IS NULL, NULL, 'y') AS nopassword, iif(host IS NULL, NULL, 'y') AS proxy, host, port,"
        " iif(host IS NULL, NULL, 'any-cert') AS starttls FROM asked CROSS JOIN setting"
        f" LEFT JOIN endpoint ON endpoint.shard = asked.shard AND endpoint.service = '{service}'"
        # A LAN that is nowhere holds nobody.
        " WHERE access <> 'off' AND iif(host IS NULL, asked.shard IS NULL AND hash IS NOT NULL"
        " AND (access = 'everywhere' OR lan <> ''), 1) ORDER BY id LIMIT 1"
    )


def user_query(user: str, mail: Path, version: Version) -> str:
    """What Dovecot asks of a mailbox, at a login and at a delivery. `mail` is the folder of mailboxes."""
    folder = str(mail).replace("'", "''").replace("%", "%%")
    # Redirects stand here, not in the configuration: that reaches a process that delivers only when it ends.
    return (
        f"SELECT '{folder}/' || id AS home, {QUOTA[version]}, address AS sieve_user_email,"
        " iif(redirects, NULL, 0) AS sieve_max_redirects FROM account CROSS JOIN setting"
        f" WHERE id = '{user}' AND shard IS NULL AND mailbox"
    )


def merged(files: Iterable[Credentials]) -> dict[AccountId, Credential]:
    """The accounts of all files."""
    return {id: credential for file in files for id, credential in file.accounts.items()}


class AccountsDatabase:
    """The one writer of the database at `path`. `shard` is the own one; None where all are served here."""

    def __init__(self, path: Path, shard: int | None) -> None:
        self.path = path
        self._shard = shard
        self._connection: sqlite3.Connection | None = None
        self._written: Mapping[AccountId, Credential] | None = None  # None: whatever an earlier run left
        self._settings: _Settings | None = None
        self._remade = False  # and nothing committed to it yet

    def close(self) -> None:
        """The file stays."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def update(
        self,
        accounts: Mapping[AccountId, Credential],
        settings: StoreSettings,
        others: Sequence[Mapping[Service, Endpoint]] = (),
    ) -> bool:
        """Have Dovecot find these accounts and no others. `others` says for each shard where its logins go.

        Returns whether the file was made anew: who has it open must open it again. Raises sqlite3.Error or
        OSError where it cannot be written, and then nothing has changed.
        """
        new = tuple(
            (number, service, host, port)
            for number, services in enumerate(others)
            if number != self._shard
            for service, (host, port) in services.items()
        )
        wanted = (",".join(settings.lan), settings.redirects, new)
        connection = self._connected()
        try:
            with _transaction(connection):
                self._write_accounts(connection, accounts)
                if wanted != self._settings:
                    connection.execute("DELETE FROM setting")
                    connection.execute("INSERT INTO setting VALUES (?, ?)", wanted[:2])
                    connection.execute("DELETE FROM endpoint")
                    connection.executemany("INSERT INTO endpoint VALUES (?, ?, ?, ?)", new)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # It is torn: the next attempt makes it anew.
            self.close()
            self._written = self._settings = None
            raise
        self._written, self._settings = accounts, wanted
        remade, self._remade = self._remade, False
        return remade

    def _write_accounts(
        self, connection: sqlite3.Connection, accounts: Mapping[AccountId, Credential]
    ) -> None:
        before = self._written
        if before is None:
            connection.execute("DELETE FROM login")
            connection.execute("DELETE FROM account")
            before = {}
        # Of a file that did not change the same objects are here again, so this takes little for each.
        changed = [id for id, c in accounts.items() if (old := before.get(id)) is not c and old != c]
        gone = before.keys() - accounts.keys()
        former = ((login, id) for id in (*changed, *gone) if id in before for login in _logins(before[id]))
        connection.executemany("DELETE FROM login WHERE login = ? AND account = ?", former)
        connection.executemany("DELETE FROM account WHERE id = ?", ((id,) for id in gone))
        rows = (self._row(id, accounts[id]) for id in changed)
        places = ", ".join("?" * (6 + len(SERVICES)))
        connection.executemany(f"INSERT OR REPLACE INTO account VALUES ({places})", rows)
        connection.executemany(
            "INSERT INTO login VALUES (?, ?)",
            ((login, id) for id in changed for login in _logins(accounts[id])),
        )

    def _row(self, id: AccountId, credential: Credential) -> tuple[str | int | None, ...]:
        elsewhere = self._shard is not None and credential.shard != self._shard
        # A zero byte would end a text early for Dovecot, and leave an empty password.
        hash = credential.hash if credential.hash is not None and credential.hash.isprintable() else None
        services = credential.services if hash is not None else {}
        return (
            id,
            None if elsewhere else hash,
            credential.shard if elsewhere else None,
            int(credential.mailbox),
            credential.address,
            credential.quota,
            *(services.get(service, "off") for service in SERVICES),
        )

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        if not _is_sound(self.path):
            self._remade = True
            for suffix in ("-wal", "-shm", ""):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))  # its companions follow its mode
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            # Not synced at each commit: a lost one is written again, for each run writes everything first.
            connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                f"PRAGMA journal_size_limit = {_WAL_BYTES};"
            )
            if self._remade:
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection


def _logins(credential: Credential) -> set[str]:
    return {login.lower() for login in credential.logins}


def _is_sound(path: Path) -> bool:
    """Whether there is a database of this program's tables in which nothing is torn."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return bool(version == _SCHEMA_VERSION and said == "ok")
    except sqlite3.OperationalError:
        raise  # the disk's fault, not the file's
    except sqlite3.DatabaseError:
        return False


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
