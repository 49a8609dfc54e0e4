"""The store program: writes what Dovecot needs from the credentials, runs it, and keeps mailboxes in order.

Role `store` serves IMAP, POP3, ManageSieve and LMTP from one shard's mailboxes; role `auth` answers SMTP AUTH
over a Unix socket.
"""

import argparse
import grp
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Literal

from prometheus_client import REGISTRY, Counter, Gauge, generate_latest

from mailpods.admin.certificate import EXPIRY_HELP, EXPIRY_NAME, expiry
from mailpods.admin.log import logger
from mailpods.admin.privileges import become, die_with_parent
from mailpods.admin.server import AdminServer, Response, Route
from mailpods.directory.endpoints import resolve
from mailpods.directory.reader import CredentialsReader
from mailpods.directory.records import AccountId, Credential, Service, StoreSettings
from mailpods.directory.shards import STORE_FILE
from mailpods.store import mailboxes
from mailpods.store.accounts import LOGIN_SERVICES, Endpoint, Version, merged, passwd_files
from mailpods.store.configuration import Facts, configuration
from mailpods.store.files import noticed_at, write
from mailpods.store.outgoing import Outgoing, Way
from mailpods.store.statistics import Logins

POLL_SECONDS = 0.1
TIDY_SECONDS = 60.0  # between looks for mailboxes to purge
STOP_SECONDS = 15.0
RESOLVE_SECONDS = 2.0  # between looks for the addresses of other shards

ACCOUNTS = Gauge("mail_store_accounts", "Accounts that Dovecot was told of.")
PARKED = Gauge("mail_store_parked", "Mailboxes that are parked: gone from the directory, not purged yet.")
GUARDED = Gauge("mail_store_guarded", "Parked mailboxes of sudden removals that wait for a confirmation.")
STARTS = Counter("mail_store_dovecot_starts", "Starts of Dovecot; more than one means that it ended.")
UP = Gauge("mail_store_up", "1 while Dovecot runs and takes logins.")
PROBLEMS = Gauge("mail_directory_problems", "Files of the directory whose newest version is not in use.")
FREE = Gauge("mail_store_free_bytes", "Space that is left on the mailboxes' volume.")
SIZE = Gauge("mail_store_size_bytes", "Size of the mailboxes' volume.")
EXPIRY = Gauge(EXPIRY_NAME, EXPIRY_HELP)


log = logger("store")


class Store:
    """One Dovecot and its files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._role: Literal["store", "auth"] = options.role
        self._dovecot = shlex.split(os.environ.get("DOVECOT", "dovecot"))
        said = subprocess.run(
            [*self._dovecot, "--version"], capture_output=True, text=True, check=True
        ).stdout
        numbers = re.match(r"(\d+)\.(\d+)(\.\d+)?", said)
        if not numbers:
            raise OSError(f"{self._dovecot[0]} --version says {said!r}, which is no version")
        self._full_version = numbers.group(0)
        self._version: Version = (2, 4) if (int(numbers[1]), int(numbers[2])) >= (2, 4) else (2, 3)
        self._reader = CredentialsReader(options.credentials, options.buckets)
        self._state: Path = options.state
        self._mail: Path | None = options.mail if self._role == "store" else None
        self._tls: Path | None = options.tls if self._role == "store" else None
        self._shard: int = options.shard
        self._outgoing = Outgoing(self._way_out, log) if self._mail else None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._loaded: dict[str, str] = {}  # file -> hash that Dovecot surely uses
        self._pending: list[tuple[float, dict[str, str]]] = []  # from when on
        self._certificate: tuple[float, ...] = ()
        self._mine: dict[AccountId, Credential] = {}
        self._addresses: Mapping[str, AccountId] = {}
        self._others: list[dict[Service, Endpoint]] = []  # where the logins of each shard go
        self._trusted: tuple[str, ...] = ()  # addresses from which other shards pass logins on
        self._resolve_at = 0.0
        self._tidy_at = 0.0  # when to look for mailboxes to park and purge; at once after a change
        self._wiped: tuple[int, ...] = ()  # domains whose mail is gone for good
        self._heard = time.monotonic()
        UP.set_function(lambda: float(self._is_up()))
        PROBLEMS.set_function(lambda: len(self._reader.problems))
        if (tls := self._tls) is not None:
            EXPIRY.set_function(lambda: expiry(tls / "tls.crt"))
        else:
            REGISTRY.unregister(EXPIRY)  # an authenticator has none
        if (mail := self._mail) is not None:
            FREE.set_function(lambda: _space(mail)[0])
            SIZE.set_function(lambda: _space(mail)[1])
        else:
            for gauge in (FREE, SIZE):
                REGISTRY.unregister(gauge)
        protocols = ("imap", "pop3", "sieve") if self._role == "store" else ("smtp",)
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
            time.sleep(POLL_SECONDS)
        if running := self._runs():
            running.terminate()
            try:
                running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()

    def _way_out(self) -> Way:
        """For what filters send."""
        settings = self._reader.settings
        pods = settings.smtp if settings else ()
        hostname = settings.hostname if settings else "localhost"
        return Way(hostname, pods, os.environ.get("INSTALLATION_KEY"), self._addresses)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _step(self) -> None:
        changed = self._reader.refresh()
        settings = self._reader.settings
        if settings is None or not self._reader.complete:
            return
        if self._find_others(settings) or changed:
            self._update(settings)
        self._acknowledge()
        self._keep_running()
        if self._mail is not None:
            self._keep_house(settings, self._mail)

    def _find_others(self, settings: StoreSettings) -> bool:
        """Where the other shards are: their pods move. Returns whether anything changed."""
        if self._role != "store" or len(settings.shards) < 2 or time.monotonic() < self._resolve_at:
            return False
        self._resolve_at = time.monotonic() + RESOLVE_SECONDS
        others = [{service: resolve(at) for service, at in shard.items()} for shard in settings.shards]
        hosts = {host for n, shard in enumerate(others) if n != self._shard for host, _ in shard.values()}
        trusted = tuple(sorted({address for host in hosts for address in _addresses(host)}))
        if (others, trusted) == (self._others, self._trusted):
            return False
        self._others, self._trusted = others, trusted
        return True

    def _update(self, settings: StoreSettings) -> None:
        accounts = merged(self._reader.credentials())
        if self._role == "store":
            accounts = {id: credential for id, credential in accounts.items() if credential.mailbox}
            self._mine = {id: c for id, c in accounts.items() if c.shard == self._shard}
            self._addresses = {c.address: id for id, c in self._mine.items() if c.address}
            files = passwd_files(
                accounts, settings, self._mail, self._version, LOGIN_SERVICES, self._shard, self._others
            )
        else:
            files = passwd_files(accounts, settings, None, self._version, ("smtp",))
        ACCOUNTS.set(len(self._mine) if self._role == "store" else len(accounts))
        if self._mail is not None:
            mailboxes.bring_back(self._mail, self._mine.keys(), log)
        wrote = [write(self._state / "accounts" / name, data) for name, data in files.items()]
        if self._configure(settings):
            self._reload()
        when = noticed_at(time.time()) if any(wrote) else 0.0
        new = dict(self._reader.hashes)
        # From here on Dovecot may use either: what comes back to be what it was is loaded again, too.
        self._loaded = {name: digest for name, digest in self._loaded.items() if new.get(name) == digest}
        self._pending.append((when, new))
        self._tidy_at = 0.0

    def _configure(self, settings: StoreSettings) -> bool:
        entry = pwd.getpwuid(os.geteuid())
        ports = {n.removeprefix("PORT_"): p for n, p in os.environ.items() if n.startswith("PORT_")}
        facts = Facts(
            version=self._version,
            full_version=self._full_version,
            user=entry.pw_name,
            group=grp.getgrgid(entry.pw_gid).gr_name,
            bind=os.environ.get("BIND", "*"),
            ports=ports,
            state=self._state,
            mail=self._mail,
            tls=self._tls,
            hostname=settings.hostname,
            tls_required=settings.tls_required,
            outgoing=self._outgoing.port if self._outgoing else 0,
            trusted=self._trusted,
        )
        return write(self._state / "dovecot.conf", configuration(facts).encode())

    def _acknowledge(self) -> None:
        while self._pending and time.time() >= self._pending[0][0] and self._is_up():
            self._loaded = self._pending.pop(0)[1]

    def _is_up(self) -> bool:
        name = "run/auth-client" if self._role == "auth" else "run/login/login"
        return self._runs() is not None and (self._state / name).exists()

    def _runs(self) -> "subprocess.Popen[bytes] | None":
        """Dovecot, if it runs."""
        return self._process if self._process and self._process.poll() is None else None

    def _keep_running(self) -> None:
        if self._tls is not None:
            try:
                stamp = tuple((self._tls / name).stat().st_mtime for name in ("tls.crt", "tls.key"))
            except OSError:
                return  # Dovecot does not start without
            if stamp != self._certificate:
                self._certificate = stamp
                self._reload()
        if self._runs():
            return
        if self._process is not None:
            log(f"Dovecot ended with status {self._process.returncode}; it is started again")
            time.sleep(1)
        (self._state / "run" / "master.pid").unlink(missing_ok=True)
        command = [*self._dovecot, "-F", "-c", str(self._state / "dovecot.conf")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        STARTS.inc()

    def _reload(self) -> None:
        """Sessions stay as they are; new ones follow the new files."""
        if running := self._runs():
            running.send_signal(signal.SIGHUP)

    def _keep_house(self, settings: StoreSettings, mail: Path) -> None:
        """Park what is gone: Dovecot has forgotten it by then. Purge what is over its time."""
        if self._pending:
            return
        now = time.time()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            there = mailboxes.present(mail)
            gone = [id for id in there if id not in self._mine]
            if gone:
                sudden = mailboxes.is_sudden(len(gone), len(there))
                batch = mailboxes.new_batch(now) if sudden else mailboxes.ORDINARY
                for id in gone:
                    self._kick(id)
                mailboxes.park(mail, gone, batch, now)
                log(f"parked {len(gone)} of {len(there)} mailboxes: {', '.join(gone[:20])}")
            mailboxes.wipe(mail, settings.wiped, log)
            self._wiped = settings.wiped
            mailboxes.purge(mail, settings.retention_seconds, settings.confirmed_shrink, now, log)
            waiting = mailboxes.guarded(mail, settings.confirmed_shrink)
            for batch, count in waiting.items():
                log(
                    f"{count} mailboxes were removed at once ({batch}): they are kept until the MailServer "
                    f"is annotated mailpods.io/confirm-removal={batch}"
                )
            PARKED.set(len(mailboxes.parked(mail)))
            GUARDED.set(sum(waiting.values()))

    def _kick(self, account: AccountId) -> None:
        """End the account's sessions."""
        doveadm = [*self._dovecot[:-1], re.sub(r"dovecot$", "doveadm", self._dovecot[-1])]
        conf = str(self._state / "dovecot.conf")
        subprocess.run([*doveadm, "-c", conf, "kick", account], capture_output=True, timeout=10, check=False)

    def routes(self) -> Mapping[str, Route]:
        """What the admin port answers."""
        return {
            "GET /metrics": lambda _: Response(
                body=generate_latest(), content_type="text/plain; version=0.0.4"
            ),
            "GET /livez": lambda _: self._health(time.monotonic() - self._heard < 30),
            "GET /readyz": lambda _: self._health(self._is_up() and not self._stopping),
            "GET /directory": lambda _: Response.json(
                {"hashes": self._acknowledged(), "problems": self._reader.problems}
            ),
        }

    def _acknowledged(self) -> dict[str, str]:
        """File -> hash. Settings that have mail wiped are not loaded before it is."""
        settings, loaded = self._reader.settings, self._loaded
        if self._mail is None or settings is None or settings.wiped == self._wiped:
            return loaded
        return {name: digest for name, digest in loaded.items() if name != STORE_FILE}

    @staticmethod
    def _health(good: bool) -> Response:
        return Response.text("ok") if good else Response.text("not now", 503)


def _space(folder: Path) -> tuple[int, int]:
    """Free for us, and in all, of the volume: bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _addresses(host: str) -> set[str]:
    """The addresses of a host, none while it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def main() -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mailpods.store", description=__doc__)
    parser.add_argument("--role", choices=("store", "auth"), required=True)
    parser.add_argument("--credentials", type=Path, required=True, help="folder of the credentials' files")
    parser.add_argument("--buckets", type=int, required=True, help="how many bucket files it has")
    parser.add_argument("--state", type=Path, required=True, help="folder for Dovecot's own files")
    parser.add_argument("--mail", type=Path, help="folder of the mailboxes (role store)")
    parser.add_argument("--tls", type=Path, help="folder with tls.crt and tls.key (role store)")
    parser.add_argument("--shard", type=int, default=0, help="which shard this is (role store)")
    parser.add_argument("--user", help="whom to become, when started as root")
    options = parser.parse_args()
    if options.role == "store" and not (options.mail and options.tls):
        parser.error("role store needs --mail and --tls")
    try:
        address = os.environ.get("BIND", "0.0.0.0")
        become(options.user)
        store = Store(options)
        admin = AdminServer(address, os.environ.get("PORT_ADMIN", "9100"), store.routes())
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"store: {error}", file=sys.stderr)
        return 1
    admin.start()
    store.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
