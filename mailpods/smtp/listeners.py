"""The ports: which there are, how they are bound, and how connections on them become sessions."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from mailpods.admin.log import logger
from mailpods.directory.endpoints import bound_socket
from mailpods.smtp import metrics
from mailpods.smtp.proxy import BadProxyHeader, read_header
from mailpods.smtp.tls import Certificate

BACKLOG = 1024
log = logger("smtp")


@dataclass(frozen=True, slots=True)
class Listener:
    """One port. `tls`: TLS from the first byte; `proxy`: a PROXY header comes before that."""

    name: str
    submission: bool = False
    tls: bool = False
    proxy: bool = False
    bulk: bool = False  # for mass mailings
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()  # who may send that header; none: anybody


LISTENERS = {
    "SMTP": Listener("smtp"),
    "SUBMISSION": Listener("submission", submission=True),
    "SUBMISSIONS": Listener("submissions", submission=True, tls=True),
    "BULK": Listener("bulk", submission=True, bulk=True),
    "BULK_SUBMIT": Listener("bulk-submit", submission=True, bulk=True),
    "BULK_SUBMITS": Listener("bulk-submits", submission=True, tls=True, bulk=True),
    "SMTP_PP": Listener("smtp-pp", proxy=True),
    "SUBMISSION_PP": Listener("submission-pp", submission=True, proxy=True),
    "SUBMISSIONS_PP": Listener("submissions-pp", submission=True, tls=True, proxy=True),
}

Bound = tuple[Listener, socket.socket]
# listener, the client's address if a PROXY header told it, whether TLS is on -> the protocol
SessionFactory = Callable[[Listener, str | None, bool], asyncio.Protocol]


def ports(environment: Mapping[str, str]) -> dict[Listener, int]:
    """The listeners that PORT_<NAME> switches on. Raises ValueError for what is no port.

    PROXIES: the networks, separated by commas, that may send a PROXY header; none: whoever gets there.
    """
    found = {}
    proxies = tuple(ip_network(each) for each in environment.get("PROXIES", "").split(",") if each)
    for name, listener in LISTENERS.items():
        if value := environment.get(f"PORT_{name}"):
            if not value.isdecimal() or int(value) > 65535:
                raise ValueError(f"PORT_{name}={value} is no port: write a number up to 65535")
            found[replace(listener, proxies=proxies) if listener.proxy else listener] = int(value)
    return found


def bind(address: str, listener: Listener, port: int) -> Bound:
    """A bound socket that shares its port with those of other workers. Raises OSError."""
    try:
        bound = bound_socket(address, port, shared=True)
    except OSError as error:
        raise OSError(error.errno, f"{listener.name}: {error.strerror}") from error
    bound.setblocking(False)
    return listener, bound


class Acceptor:
    """Accepts on a worker's sockets."""

    def __init__(
        self, bound: list[Bound], make: SessionFactory, certificate: Certificate, handshake: float
    ) -> None:
        self._bound = bound
        self._make = make
        self._certificate = certificate
        self._handshake = handshake
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        for listener, bound in self._bound:
            if listener.tls or listener.proxy:
                bound.listen(BACKLOG)
                self._spawn(self._accept(listener, bound))
            else:
                server = await loop.create_server(
                    lambda listener=listener: self._make(listener, None, False),  # type: ignore[misc]
                    sock=bound,
                    backlog=BACKLOG,
                )
                self._servers.append(server)

    def stop(self) -> None:
        """Accept no more; what is connected stays."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for _, bound in self._bound:
            bound.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: Listener, bound: socket.socket) -> None:
        """A loop of its own: the certificate is asked for at each connection, so that it may change."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(bound)
            except OSError as error:  # out of file descriptors, or the client is gone already
                log(f"accept failed listener={listener.name} {error}")
                await asyncio.sleep(0.1)
                continue
            self._spawn(self._prepare(listener, connection, str(peer[0])))

    @staticmethod
    async def _client(listener: Listener, connection: socket.socket, peer: str) -> str | None:
        if listener.proxies and not any(ip_address(peer) in network for network in listener.proxies):
            raise BadProxyHeader("is no proxy that the MailServer names")
        return await read_header(connection)

    async def _prepare(self, listener: Listener, connection: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ip = await self._client(listener, connection, peer) if listener.proxy else None
            context = self._certificate.context if listener.tls else None
            if listener.tls and context is None:
                raise OSError("no certificate")
            await loop.connect_accepted_socket(
                lambda: self._make(listener, ip, listener.tls),
                connection,
                ssl=context,
                ssl_handshake_timeout=self._handshake if context else None,
            )
        except BadProxyHeader as error:
            metrics.REJECTS.labels("proxy-header").inc()
            log(f"refused client={peer} reason=proxy-header {error}")
            connection.close()
        except (OSError, TimeoutError) as error:
            log(f"connection failed client={peer} listener={listener.name} {error}")
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
