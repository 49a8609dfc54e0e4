"""Asks Dovecot's auth process whether a login is right: the client side of its authentication protocol 1.

One connection per worker; requests run in parallel and are matched by id. The password passes through this
process, is never kept, and never logged.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from mailpods.directory.records import AccountId

TIMEOUT = 60  # seconds; Dovecot delays a refusal on purpose, longer with each failure of an address


class AuthUnavailable(Exception):
    """Nobody can say whether the login is right: the client may try again later (454 4.7.0)."""


@dataclass(frozen=True, slots=True)
class Login:
    """A login to judge. `secured` says whether TLS protects it; `ip` is the client's real address."""

    username: bytes
    password: bytes
    ip: str
    secured: bool


def request(number: int, login: Login) -> bytes:
    """The AUTH line of the protocol. `resp` comes last, as Dovecot demands."""
    response = b64encode(b"\0" + login.username + b"\0" + login.password).decode()
    secured = "\tsecured" if login.secured else ""
    return (
        f"AUTH\t{number}\tPLAIN\tservice=smtp\tnologin\trip={login.ip}{secured}\tresp={response}\n".encode()
    )


def answer(fields: list[str]) -> AccountId | None:
    """What the fields behind OK or FAIL and the id say: the account, or None for a wrong login.

    Raises AuthUnavailable where Dovecot itself could not tell.
    """
    verb, attributes = fields[0], fields[2:]
    if verb == "OK":
        for attribute in attributes:
            if attribute.startswith("user="):
                return AccountId(attribute[5:])
        raise AuthUnavailable("Dovecot named no user")
    if "temp" in attributes:
        raise AuthUnavailable("Dovecot reports a temporary failure")
    return None


class DovecotAuth(asyncio.Protocol):
    """The connection to the auth socket at `path`; made when first needed, and again after it broke."""

    def __init__(self, path: str, log: Callable[[str], None]) -> None:
        self._path = path
        self._log = log
        self._transport: asyncio.WriteTransport | None = None
        self._ready: asyncio.Future[None] | None = None  # done when the handshake is
        self._buffer = b""
        self._number = 0
        self._waiting: dict[str, asyncio.Future[AccountId | None]] = {}

    async def check(self, login: Login) -> AccountId | None:
        """The account that the login belongs to, or None if it is wrong. Raises AuthUnavailable."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._connect()
                if self._transport is None:
                    raise AuthUnavailable("the connection to Dovecot broke")
                self._number = self._number % 0x7FFFFFFF + 1
                future: asyncio.Future[AccountId | None] = asyncio.get_running_loop().create_future()
                self._waiting[str(self._number)] = future
                number = str(self._number)
                try:
                    self._transport.write(request(self._number, login))
                    return await future
                finally:
                    self._waiting.pop(number, None)
        except TimeoutError:
            raise AuthUnavailable("Dovecot does not answer") from None

    async def probe(self) -> bool:
        """Whether Dovecot takes questions."""
        try:
            async with asyncio.timeout(2):
                await self._connect()
        except (TimeoutError, AuthUnavailable):
            return False
        return True

    def close(self) -> None:
        """End the connection; whoever waits is told that nobody knows."""
        if self._transport:
            self._transport.close()

    async def _connect(self) -> None:
        if self._ready is None:
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            try:
                await loop.create_unix_connection(lambda: self, self._path)
            except OSError as error:
                self._broken(f"{self._path}: {error.strerror or error}")
                raise AuthUnavailable(str(error)) from error
        await asyncio.shield(self._ready)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.WriteTransport, transport)  # uvloop's are of no class of asyncio's
        self._transport = transport
        self._buffer = b""
        transport.write(f"VERSION\t1\t1\nCPID\t{os.getpid()}\n".encode())

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").split("\t"))

    def connection_lost(self, error: Exception | None) -> None:
        self._broken("the connection to Dovecot broke")

    def _line(self, fields: list[str]) -> None:
        if fields[0] in ("OK", "FAIL") and len(fields) > 1:
            future = self._waiting.get(fields[1])
            if future and not future.done():
                try:
                    future.set_result(answer(fields))
                except AuthUnavailable as error:
                    future.set_exception(error)
        elif fields[0] == "VERSION" and fields[1:2] != ["1"]:
            self._log(f"auth protocol {fields[1:]} is not understood")
            self.close()
        elif fields[0] == "DONE" and self._ready and not self._ready.done():
            self._ready.set_result(None)

    def _broken(self, why: str) -> None:
        self._log(why)
        ready, self._ready, self._transport = self._ready, None, None
        unavailable = AuthUnavailable(why)
        if ready and not ready.done():
            ready.set_exception(unavailable)
            ready.exception()  # it may be that nobody waits
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(unavailable)
