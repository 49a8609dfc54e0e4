"""What a pod of Dovecot does all the time: tells it what the credentials say, and says what it was told."""

import argparse
import grp
import os
import pwd
import shlex
import signal
import sqlite3
import time
from collections.abc import Mapping, Set
from pathlib import Path
from types import FrameType

from prometheus_client import REGISTRY, Counter, Gauge, generate_latest

from mailpods.admin.certificate import EXPIRY_HELP, EXPIRY_NAME, expiry
from mailpods.admin.log import logger
from mailpods.admin.server import Response, Route
from mailpods.directory.reader import CredentialsReader
from mailpods.directory.records import AccountId, Credential, StoreSettings
from mailpods.directory.shards import STORE_FILE
from mailpods.store.accounts import AccountsDatabase, merged
from mailpods.store.certificate import KeptPair
from mailpods.store.configuration import Facts, files
from mailpods.store.files import write
from mailpods.store.housekeeping import Housekeeping
from mailpods.store.outgoing import Outgoing, Way
from mailpods.store.siblings import Siblings
from mailpods.store.statistics import Logins
from mailpods.store.supervise import Dovecot

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.01  # between looks whether the folder of the credentials changed
RENAME_SECONDS = 0.3  # between looks whether a mailbox may be renamed
RETRY_SECONDS = 1.0  # after the accounts could not be written
HEARD_SECONDS = 30.0  # without a step, after which the program is taken for dead

ACCOUNTS = Gauge("mail_store_accounts", "Accounts that Dovecot was told of.")
STARTS = Counter("mail_store_dovecot_starts", "Starts of Dovecot; more than one means that it ended.")
UP = Gauge("mail_store_up", "1 while Dovecot runs and takes logins.")
PROBLEMS = Gauge("mail_directory_problems", "Files of the directory whose newest version is not in use.")
FREE = Gauge("mail_store_free_bytes", "Space that is left on the mailboxes' volume.")
SIZE = Gauge("mail_store_size_bytes", "Size of the mailboxes' volume.")
EXPIRY = Gauge(EXPIRY_NAME, EXPIRY_HELP)


log = logger("store")


class StorePod:
    """One Dovecot and its files. Role `store` has mailboxes and a shard, role `auth` has neither."""

    def __init__(self, options: argparse.Namespace) -> None:
        serves_mail: bool = options.role == "store"
        self._state: Path = options.state
        self._mail: Path | None = options.mail if serves_mail else None
        self._tls = KeptPair(options.tls, self._state / "tls.pem", log) if serves_mail else None
        self._reader = CredentialsReader(options.credentials, options.buckets)
        command = shlex.split(os.environ.get("DOVECOT", "dovecot"))
        ready = "login/login" if serves_mail else "auth-client"
        self._dovecot = Dovecot(command, self._state, ready, STARTS.inc, log)
        self._database = AccountsDatabase(
            self._state / "accounts" / "accounts.sqlite", options.shard if serves_mail else None
        )
        self._siblings = Siblings(options.shard) if serves_mail else None
        port = int(os.environ.get("PORT_OUTGOING", "0"))
        self._outgoing = Outgoing(self._way_out, log, port) if serves_mail else None
        self._housekeeping = Housekeeping(self._mail, self._dovecot.kick, log) if self._mail else None
        self._shard: int = options.shard
        self._stopping = False
        self._stale = False  # Dovecot is not told of what the reader has
        self._update_at = 0.0
        self._problem: str | None = None  # why not
        self._committed: dict[str, str] = {}  # file -> hash that Dovecot uses once it runs
        self._loaded: dict[str, str] = {}  # file -> hash that Dovecot surely uses
        self._mine: Set[AccountId] = frozenset()
        self._addresses: Mapping[str, AccountId] = {}
        self._heard = time.monotonic()
        self._register(("imap", "pop3", "sieve") if serves_mail else ("smtp",))

    def _register(self, protocols: tuple[str, ...]) -> None:
        UP.set_function(lambda: float(self._dovecot.is_up()))
        PROBLEMS.set_function(lambda: len(self._problems()))
        if (tls := self._tls) is not None:
            EXPIRY.set_function(lambda: expiry(tls.path))
        else:
            REGISTRY.unregister(EXPIRY)  # an authenticator has none
        if (mail := self._mail) is not None:
            FREE.set_function(lambda: _space(mail)[0])
            SIZE.set_function(lambda: _space(mail)[1])
        else:
            for gauge in (FREE, SIZE):
                REGISTRY.unregister(gauge)
        REGISTRY.register(Logins(self._state / "run", protocols))

    def run(self) -> None:
        """Until SIGTERM."""
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._stop)
        for name in ("run", "state", "accounts"):
            (self._state / name).mkdir(parents=True, exist_ok=True, mode=0o750)
        if self._outgoing:
            self._outgoing.start()
        while not self._stopping:
            self._step()
            self._heard = time.monotonic()
            while time.monotonic() < self._heard + POLL_SECONDS and not self._reader.stirred():
                time.sleep(LOOK_SECONDS)
        self._dovecot.stop()
        self._database.close()

    def _way_out(self) -> Way:
        """For what filters send."""
        settings = self._reader.settings
        pods = settings.smtp if settings else ()
        hostname = settings.hostname if settings else "localhost"
        return Way(hostname, pods, os.environ.get("INSTALLATION_KEY"), self._addresses)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _step(self) -> None:
        self._stale |= self._reader.refresh()
        settings = self._reader.settings
        if settings is None or not self._reader.complete:
            return
        if self._siblings:
            self._stale |= self._siblings.look(settings)
        if self._stale and time.monotonic() >= self._update_at:
            self._update(settings)
        if self._dovecot.is_up():
            self._loaded = self._committed
        self._follow_certificate(settings)
        if not self._tls or self._tls.path.exists():  # Dovecot does not start without
            self._dovecot.keep_running()
        if self._housekeeping and not self._stale and self._loaded:
            try:
                self._housekeeping.keep(settings, self._mine)
            except OSError as error:
                log(f"mailboxes cannot be put in order, and are looked at again later: {error}")

    def _update(self, settings: StoreSettings) -> None:
        hashes = dict(self._reader.hashes)
        accounts = merged(self._reader.credentials())
        mine: Mapping[AccountId, Credential] = {}
        if self._housekeeping:
            accounts = {id: credential for id, credential in accounts.items() if credential.mailbox}
            mine = {id: c for id, c in accounts.items() if c.shard == self._shard}
        try:
            held = self._housekeeping.bring_back(mine) if self._housekeeping else set[AccountId]()
            if held:
                accounts = {id: credential for id, credential in accounts.items() if id not in held}
            others = self._siblings.endpoints if self._siblings else ()
            remade = self._database.update(accounts, settings, others)
            if self._configure(settings) or remade:
                self._dovecot.reload()
        except (OSError, sqlite3.Error) as error:
            self._update_at = time.monotonic() + RETRY_SECONDS
            if str(error) != self._problem:
                log(f"the accounts stay as they were, for they cannot be written: {error}")
            self._problem = str(error)
            return
        if self._housekeeping and held:  # what is not all in use is not acknowledged either
            self._housekeeping.end_sessions(held)
            self._update_at = time.monotonic() + RENAME_SECONDS
            return
        self._stale, self._problem = False, None
        self._committed = hashes
        ACCOUNTS.set(len(mine) if self._housekeeping else len(accounts))
        if self._housekeeping:
            self._housekeeping.accounts_changed(self._mine - mine.keys())
            self._mine = mine.keys()
            self._addresses = {c.address: id for id, c in mine.items() if c.address}

    def _configure(self, settings: StoreSettings) -> bool:
        entry = pwd.getpwuid(os.geteuid())
        ports = {n.removeprefix("PORT_"): p for n, p in os.environ.items() if n.startswith("PORT_")}
        facts = Facts(
            version=self._dovecot.version,
            full_version=self._dovecot.full_version,
            user=entry.pw_name,
            group=grp.getgrgid(entry.pw_gid).gr_name,
            bind=os.environ.get("BIND", "*"),
            ports=ports,
            state=self._state,
            database=self._database.path,
            mail=self._mail,
            tls=self._tls.path if self._tls else None,
            hostname=settings.hostname,
            tls_required=settings.tls_required,
            proxies=os.environ.get("PROXIES", Facts.proxies).replace(",", " "),
            outgoing=self._outgoing.port if self._outgoing else 0,
            trusted=self._siblings.trusted if self._siblings else (),
            cores=len(os.sched_getaffinity(0)),
        )
        return any([write(path, text.encode()) for path, text in files(facts).items()])

    def _follow_certificate(self, settings: StoreSettings) -> None:
        if self._tls and self._tls.refresh(settings.hostname):
            self._dovecot.reload()

    def routes(self) -> Mapping[str, Route]:
        """What the admin port answers."""
        return {
            "GET /metrics": lambda _: Response(
                body=generate_latest(), content_type="text/plain; version=0.0.4"
            ),
            "GET /livez": lambda _: _health(time.monotonic() - self._heard < HEARD_SECONDS),
            "GET /readyz": lambda _: _health(self._dovecot.is_up() and not self._stopping),
            "GET /directory": lambda _: Response.json(
                {"hashes": self._acknowledged(), "problems": self._problems()}
            ),
        }

    def _problems(self) -> dict[str, str]:
        """What is not in use -> why."""
        own = {"accounts": f"cannot be written: {self._problem}"} if self._problem else {}
        return {**self._reader.problems, **own}

    def _acknowledged(self) -> dict[str, str]:
        """File -> hash. Settings that have mail wiped are not loaded before it is."""
        settings, loaded = self._reader.settings, self._loaded
        if self._housekeeping is None or settings is None or settings.wiped == self._housekeeping.wiped:
            return loaded
        return {name: digest for name, digest in loaded.items() if name != STORE_FILE}


def _health(good: bool) -> Response:
    return Response.text("ok") if good else Response.text("not now", 503)


def _space(folder: Path) -> tuple[int, int]:
    """Free for us, and in all, of the volume: bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
