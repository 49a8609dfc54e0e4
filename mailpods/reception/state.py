"""What the sessions of one worker share."""

import asyncio
import resource
import traceback
from uuid import uuid4

from mailpods.admin.log import logger
from mailpods.bulk.suppression import Suppressions
from mailpods.directory.reader import DirectoryReader
from mailpods.dns.names import Names
from mailpods.identity.dovecot import DovecotAuth
from mailpods.message.srs import Srs
from mailpods.reception import metrics
from mailpods.reception.budgets import Budgets
from mailpods.reception.open_sessions import OpenSessions
from mailpods.reception.timeouts import Timeouts
from mailpods.routing.router import Router
from mailpods.rules.connection_limits import ConnectionLimits
from mailpods.rules.quota import QuotaStatus
from mailpods.rules.settings import Settings
from mailpods.smtp.tls import Certificate
from mailpods.spool.spool import Spool

log = logger("smtp")


class ReceptionState:
    """One worker's."""

    def __init__(
        self,
        reader: DirectoryReader,
        spool: Spool,
        auth: DovecotAuth,
        certificate: Certificate,
        connection_limits: ConnectionLimits,
        names: Names,
        timeouts: Timeouts | None = None,
        suppressions: Suppressions | None = None,
        key: str | None = None,
    ) -> None:
        """`suppressions`: of the bulk pool, which alone has them. `key`: the installation's."""
        self.loop = asyncio.get_running_loop()
        self.reader = reader
        self.key = key
        self.router = Router(reader, Srs(key) if key else None)
        self.spool = spool
        self.auth = auth
        self.quota = QuotaStatus()
        self.certificate = certificate
        self.connection_limits = connection_limits
        self.names = names
        self.suppressions = suppressions
        self.timeouts = timeouts or Timeouts()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.sessions = OpenSessions(max(files - 200, 100), self.fault)
        self.budgets = Budgets()
        self.draining = False
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings | None:
        """The newest settings; None before the directory was first read."""
        server = self.reader.server
        if server is None:
            return None
        if self._settings is None or self._settings.server is not server:
            self._settings = Settings(server)
        return self._settings

    def fault(self, error: Exception, about: str = "") -> str:
        """Log and count something of ours that failed. Returns the id under which the log has it."""
        id = uuid4().hex[:12]
        metrics.FAULTS.inc()
        where = "".join(traceback.format_exception(error)).strip()
        log(f"fault id={id} {about} {where!r}")
        return id

    async def drain(self) -> None:
        """Take no new transactions, and let those under way finish."""
        self.draining = True
        await self.sessions.drain(self.timeouts.drain)
