"""MTA-STS (RFC 8461): domains that promise TLS with a certificate. HTTPS gives the policy, disk keeps it."""

import asyncio
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mailpods.dns.resolver import NoAnswer, Resolver
from mailpods.spool.database import connect

FILE = "mta-sts.db"
FETCH_SECONDS = 10.0
MOST_BYTES = 64 * 1024
LONGEST_DAYS = 366
LOOK_SECONDS = 300.0  # that a domain's answer is believed without asking DNS again
_DAY = 86400

Mode = Literal["enforce", "testing", "none"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain promises. `mx`: names of its mail servers, `*.` for one label."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int  # seconds

    def allows(self, host: str) -> bool:
        """Whether mail may go to this server (§4.1)."""
        name = host.lower().rstrip(".")
        parent = name.partition(".")[2]
        return any(pattern == name or pattern == f"*.{parent}" for pattern in self.mx)


class Malformed(ValueError):
    """What the site gives is no policy."""


def parse(text: str) -> Policy:
    """The policy in a well-known file (§3.2). Raises Malformed."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), []).append(value.strip().lower())
    mode, age = fields.get("mode", [""])[0], fields.get("max_age", [""])[0]
    if (
        fields.get("version") != ["stsv1"]
        or mode not in ("enforce", "testing", "none")
        or not age.isdecimal()
    ):
        raise Malformed("no policy of version STSv1")
    if mode != "none" and not fields.get("mx"):
        raise Malformed("a policy without mx")
    return Policy(mode, tuple(fields.get("mx", ())), min(int(age), LONGEST_DAYS * _DAY))  # type: ignore[arg-type]


class Policies:
    """The policies of all domains that have one. One for each process; the file is shared."""

    def __init__(
        self,
        folder: Path,
        dns: Callable[[], Resolver],
        context: ssl.SSLContext | None = None,
        failed: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """`context`: whom to trust; the system's authorities where it is None.

        `failed` is told a domain whose policy could not be had, and how RFC 8460 §4.3.2 calls that.
        """
        self._dns, self._failed = dns, failed
        self._context = context
        self._looked: dict[str, tuple[float, Policy | None]] = {}
        self._database = connect(folder / FILE)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS policy (domain TEXT PRIMARY KEY, "
            "id TEXT NOT NULL, text TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID"
        )

    async def of(self, domain: str) -> Policy | None:
        """The policy that holds now; None where there is none, or where none can be had (§5)."""
        now = time.time()
        until, known = self._looked.get(domain, (0.0, None))
        if until > now:
            return known
        policy = await self._look(domain, now)
        if len(self._looked) > 10_000:
            self._looked.clear()
        self._looked[domain] = (now + LOOK_SECONDS, policy)
        return policy

    async def _look(self, domain: str, now: float) -> Policy | None:
        row = self._database.execute(
            "SELECT id, text FROM policy WHERE domain = ? AND until > ?", (domain, now)
        ).fetchone()
        try:
            identity = await self._identity(domain)
        except NoAnswer:
            identity = None
        # While nothing newer can be had, what was promised holds (§3.3): or else an attacker need only stay
        # in the way of the newer one.
        if identity is None or (row and row[0] == identity):
            return parse(row[1]) if row else None
        try:
            text = await self._fetch(domain)
            policy = parse(text)
        except (NoAnswer, OSError, ValueError, http.client.HTTPException) as error:
            self._failed(domain, _result(error))
            return parse(row[1]) if row else None
        self._database.execute(
            "INSERT OR REPLACE INTO policy VALUES (?, ?, ?, ?)",
            (domain, identity, text, now + policy.max_age),
        )
        return policy

    async def _identity(self, domain: str) -> str | None:
        """Of the newest policy, as DNS says (§3.1)."""
        found = [
            match[1]
            for text in await self._dns().texts(f"_mta-sts.{domain}")
            if (match := re.match(r"v=STSv1\s*;\s*(?:.*;)?\s*id\s*=\s*([A-Za-z0-9]{1,32})\s*;?", text))
        ]
        return found[0] if len(found) == 1 else None

    async def _fetch(self, domain: str) -> str:
        host = f"mta-sts.{domain}"
        addresses = await self._dns().addresses(host)
        if not addresses:
            raise NoAnswer(f"{host} has no address")
        return await asyncio.to_thread(_get, host, addresses[0], self._context)


def _result(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "sts-webpki-invalid"
    return "sts-policy-invalid" if isinstance(error, Malformed) else "sts-policy-fetch-error"


def _get(host: str, address: str, context: ssl.SSLContext | None) -> str:
    """The well-known file. No redirect is followed (§3.3)."""
    connection = http.client.HTTPSConnection(host, timeout=FETCH_SECONDS)
    plain = socket.create_connection((address, 443), FETCH_SECONDS)
    connection.sock = (context or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)
    try:
        connection.request("GET", "/.well-known/mta-sts.txt")
        answer = connection.getresponse()
        if answer.status != 200 or not answer.headers.get_content_type() == "text/plain":
            raise ValueError(f"{host} answers {answer.status}, and no text")
        return answer.read(MOST_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()
