"""PROXY protocol, versions 1 and 2, on ports of their own: who the client behind a load balancer is.

The header is looked at without being taken from the socket (MSG_PEEK), and then taken exactly: TLS may begin
with the next byte, and that byte belongs to the TLS layer.
"""

import asyncio
import socket

from aiosmtpd.proxy_protocol import V2_SIGNATURE, get_proxy

V1_LIMIT = 107  # bytes with CRLF, section 2.1 of the specification
V2_LIMIT = 2048  # bytes; addresses take 36, the rest are extensions
TIMEOUT = 5.0  # seconds for the header
_PAUSE = 0.01  # seconds between two looks at a header that is not complete


class BadProxyHeader(ValueError):
    """What came is no PROXY header: such a connection is closed without a word."""


def length(data: bytes) -> int | None:
    """The length in bytes of the header that `data` begins with; None if more is needed to tell.

    Raises BadProxyHeader.
    """
    if data.startswith(b"PROXY "):
        end = data.find(b"\r\n", 0, V1_LIMIT)
        if end >= 0:
            return end + 2
        if len(data) >= V1_LIMIT:
            raise BadProxyHeader("no line end")
        return None
    if data.startswith(V2_SIGNATURE):
        if len(data) < 16:
            return None
        total = 16 + int.from_bytes(data[14:16], "big")
        if total > V2_LIMIT:
            raise BadProxyHeader("too long")
        return total if len(data) >= total else None
    if b"PROXY ".startswith(data) or V2_SIGNATURE.startswith(data):
        return None
    raise BadProxyHeader("no signature")


async def client_of(header: bytes) -> str | None:
    """The client's address in a complete header; None where it names none (UNKNOWN, LOCAL): then the peer's
    own counts. Raises BadProxyHeader."""
    reader = asyncio.StreamReader()
    reader.feed_data(header)
    reader.feed_eof()
    data = await get_proxy(reader)
    if not data.valid:
        raise BadProxyHeader(data.error)
    if (data.version == 2 and data.command == 0) or data.src_addr is None or isinstance(data.src_addr, bytes):
        return None
    return str(data.src_addr)


async def read_header(connection: socket.socket) -> str | None:
    """Take the header off a new connection. Returns as client_of(). Raises BadProxyHeader, OSError or
    TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                data = connection.recv(V2_LIMIT, socket.MSG_PEEK)
            except BlockingIOError:
                data = b""
            else:
                if not data:
                    raise BadProxyHeader("the connection ended")
            found = length(data)
            if found is not None:
                header = await loop.sock_recv(connection, found)
                return await client_of(header)
            await asyncio.sleep(_PAUSE)
