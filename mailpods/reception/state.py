"""What the sessions of one worker share, and what it may cost: connections, bytes in memory, time."""

import asyncio
import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailpods.admin.log import logger
from mailpods.directory.reader import DirectoryReader
from mailpods.dns.names import Names
from mailpods.identity.dovecot import DovecotAuth
from mailpods.message.srs import Srs
from mailpods.routing.router import Router
from mailpods.rules.connection_limits import ClientCounts
from mailpods.rules.quota import QuotaStatus
from mailpods.rules.settings import Settings
from mailpods.smtp import metrics
from mailpods.smtp.tls import Certificate
from mailpods.spool.spool import Spool
from mailpods.spool.suppression import Suppressions

if TYPE_CHECKING:
    from mailpods.reception.session import Session

log = logger("smtp")


def srs() -> Srs | None:
    """By the installation's key, which is in the environment; None on a machine that has none."""
    key = os.environ.get("INSTALLATION_KEY")
    return Srs(key) if key else None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may take, in seconds (RFC 5321 §4.5.3.2 asks for five minutes)."""

    command: float = 300
    data: float = 300  # between two pieces of a message
    refused: float = 10  # the same, once it is clear that the message is refused
    handshake: float = 20  # TLS
    greeting: float = 2  # that clients wait for it where those that speak first are refused
    drain: float = 20  # for transactions under way when the program is told to stop

    def message(self, limit: int) -> float:
        """For a whole message of `limit` bytes at most: a slow line may be slow, but not for ever."""
        return 600 + limit / 32_000


class Hub:
    """One worker's shared state."""

    def __init__(
        self,
        reader: DirectoryReader,
        spool: Spool,
        auth: DovecotAuth,
        certificate: Certificate,
        clients: ClientCounts,
        names: Names,
        patience: Patience | None = None,
        suppressions: Suppressions | None = None,
    ) -> None:
        """`suppressions`: of the bulk pool, which alone has them."""
        self.loop = asyncio.get_running_loop()
        self.reader = reader
        self.key = os.environ.get("INSTALLATION_KEY")
        self.srs = srs()
        self.router = Router(reader, self.srs)
        self.spool = spool
        self.auth = auth
        self.quota = QuotaStatus()
        self.certificate = certificate
        self.clients = clients
        self.names = names
        self.suppressions = suppressions
        self.patience = patience or Patience()
        self.sessions: dict[Session, None] = {}  # in the order of their arrival
        self.receiving = 0  # bytes of messages that are not in the spool yet
        self.draining = False
        self._settings: Settings | None = None
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.max_sessions = max(files - 200, 100)
        self.max_receiving = 256 << 20

    @property
    def settings(self) -> Settings | None:
        """The newest settings; None before the directory was first read."""
        server = self.reader.server
        if server is None:
            return None
        if self._settings is None or self._settings.server is not server:
            self._settings = Settings(server)
        return self._settings

    def add(self, session: "Session") -> bool:
        """Take a session in. When there are too many, the stranger who has been silent longest has to go;
        returns False if nobody could be sent away."""
        if len(self.sessions) >= self.max_sessions:
            silent = [s for s in self.sessions if s.is_idle_stranger]
            if not silent:
                return False
            min(silent, key=lambda s: s.active).turn_away()
        self.sessions[session] = None
        return True

    def remove(self, session: "Session") -> None:
        """The session is over."""
        self.sessions.pop(session, None)

    async def watch(self) -> None:
        """Once a second, look whose time is up. Runs until cancelled."""
        while True:
            await asyncio.sleep(1)
            metrics.OPEN.set(len(self.sessions))
            now = self.loop.time()
            for session in list(self.sessions):
                session.look_at_the_clock(now)

    async def drain(self) -> None:
        """Let transactions finish, for a while, and take no new ones; then close what is left."""
        self.draining = True
        end = self.loop.time() + self.patience.drain
        while self.sessions and self.loop.time() < end:
            for session in list(self.sessions):
                if session.is_idle:
                    session.say_goodbye()
            await asyncio.sleep(0.02)
        for session in list(self.sessions):
            session.say_goodbye()
