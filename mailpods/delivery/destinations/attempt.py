"""One attempt at a mail server: by TLS as its domain promises it, or in clear where nothing is promised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from mailpods.delivery import metrics
from mailpods.delivery.client.connection import Connection, Target
from mailpods.delivery.client.replies import TlsFailed, TlsMissing
from mailpods.delivery.client.tls import TlsSession
from mailpods.delivery.destinations import dane
from mailpods.delivery.destinations.base import Identity
from mailpods.directory.records import TlsMode
from mailpods.dns.records import MailHost, Tlsa
from mailpods.dns.resolver import SMTP_PORT

CONNECT_SECONDS = 10.0  # to one address
NO_STARTTLS = "starttls-not-supported"


@dataclass(frozen=True, slots=True)
class Promise:
    """What policies say of TLS with the servers of a domain."""

    verified: bool = False  # only by TLS, with certificates of these names (MTA-STS)
    tried: bool = False  # by TLS, and it is told where there are none (MTA-STS in mode testing)
    signed: bool = False  # so that TLSA records of these hosts bind (DANE)
    unlisted: frozenset[str] = frozenset()  # names that a policy in mode testing does not allow


NOTHING_PROMISED = Promise()


@dataclass(frozen=True, slots=True)
class Attempt:
    """At one address of a mail server. `tlsa`: what binds it by DANE, None where nothing does."""

    host: MailHost
    address: str
    us: Identity
    promise: Promise
    tlsa: tuple[Tlsa, ...] | None

    @property
    def is_trial(self) -> bool:
        """Whether TLS is tried as if it were promised, and nothing depends on it."""
        return self.promise.tried and self.tlsa is None

    @property
    def target(self) -> Target:
        """What DANE asks for holds beside what MTA-STS does (RFC 8461 §2)."""
        tls: TlsMode | Literal["dane"] = "opportunistic" if self.tlsa is None else "dane"
        return Target(
            self.address,
            SMTP_PORT,
            self.us.hello,
            tls="starttls" if self.promise.verified else tls,
            name=self.host.name,
            source=self.us.source_for(self.address),
            proof=partial(self._proves, self.tlsa) if self.tlsa else None,
        )

    def _proves(self, records: Sequence[Tlsa], chain: Sequence[bytes]) -> bool:
        return dane.holds(records, chain, self.host.name)

    def session(self, result: str = "") -> TlsSession:
        """For reports."""
        has_policy = self.promise.verified or self.promise.tried
        bound: Literal["sts", "no-policy-found"] = "sts" if has_policy else "no-policy-found"
        return TlsSession(bound if self.tlsa is None else "tlsa", self.host.name, result)

    @property
    def label(self) -> str:
        """Of the connections that come of it by TLS, for metrics."""
        return "dane" if self.tlsa else "verified" if self.promise.verified else "opportunistic"


async def connect(attempt: Attempt, sessions: list[TlsSession]) -> Connection:
    """The connection; how TLS went is added to `sessions`, those of the attempts before it."""
    target, label = attempt.target, attempt.label
    try:
        if attempt.is_trial:
            connection = await _try_out(attempt, sessions)
        else:
            connection = await Connection.open(target, CONNECT_SECONDS)
    except TlsMissing:
        sessions.append(attempt.session(NO_STARTTLS))
        raise
    except TlsFailed as error:
        if not attempt.is_trial:
            sessions.append(attempt.session(error.result))
        metrics.TLS.labels("failed").inc()
        if target.tls != "opportunistic":
            raise
        # Better in clear than not at all, where nothing promises TLS (RFC 7435).
        connection, label = await Connection.open(replace(target, tls="none"), CONNECT_SECONDS), "none"
    else:
        if not attempt.is_trial:
            sessions.append(attempt.session("" if connection.is_encrypted else NO_STARTTLS))
    connection.sessions = tuple(sessions)
    metrics.TLS.labels(label if connection.is_encrypted else "none").inc()
    return connection


async def _try_out(attempt: Attempt, sessions: list[TlsSession]) -> Connection:
    """As the policy wants it; where that fails, it is told, and mail goes as without one (RFC 8461 §5).

    Raises TlsFailed where TLS fails without a policy, too.
    """
    target, result = attempt.target, ""
    if attempt.host.name in attempt.promise.unlisted:
        result = "validation-failure"
    else:
        try:
            connection = await Connection.open(replace(target, tls="starttls"), CONNECT_SECONDS)
        except TlsMissing:
            result = NO_STARTTLS
        except TlsFailed as error:
            result = error.result
    sessions.append(attempt.session(result))
    return await Connection.open(target, CONNECT_SECONDS) if result else connection
