"""The HTTP server behind the admin port: a thread of the standard library's, so that a busy or hung event
loop can still be asked how it is."""

import hmac
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socketserver import BaseServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mailpods.directory.endpoints import UNIX, bound_socket, listening_socket


@dataclass(frozen=True, slots=True)
class Request:
    """What a route sees: the query's parameters, the body of a POST or DELETE, and who says to be asking."""

    query: Mapping[str, str]
    body: bytes = b""
    authorization: str = ""  # the header of this name

    def bears(self, key: str | None) -> bool:
        """Whether who asks knows a key (RFC 6750 §2.1); nobody does where there is none."""
        given, wanted = self.authorization.encode(), f"Bearer {key}".encode()
        return bool(key) and hmac.compare_digest(given, wanted)


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> "Response":
        """A JSON answer."""
        return cls(status, json.dumps(value, sort_keys=True).encode() + b"\n", "application/json")

    @classmethod
    def text(cls, value: str, status: int = 200) -> "Response":
        """A line for people and probes."""
        return cls(status, value.encode() + b"\n")

    @classmethod
    def refused(cls, why: str, status: int = 400) -> "Response":
        """A failure as API servers tell theirs: of others, kubectl does not show the words."""
        failure = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": why, "code": status}
        return cls.json(failure, status)


Route = Callable[[Request], Response]  # called in a thread of its own; must be thread-safe

MAX_BODY = 1 << 20  # bytes, of most routes


_AT_ONCE = 200  # connections; some of these ports are open to the world


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, bound: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        BaseServer.__init__(self, bound.getsockname(), handler)
        self.socket = bound
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, if there is room for one more."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Until its connection ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


def _bound(host: str, port: str | int) -> socket.socket:
    if str(port).startswith(UNIX):
        return listening_socket(str(port).removeprefix(UNIX))
    return bound_socket(host, int(port))


def _body(headers: Message, stream: BufferedIOBase, most: int) -> bytes | None:
    """The body of a request, None if it has more than `most` bytes. Raises ValueError."""
    if "chunked" not in headers.get("Transfer-Encoding", ""):
        length = int(headers.get("Content-Length") or 0)
        return stream.read(length) if length <= most else None
    # In chunks (RFC 9112, section 7.1), as a POST of kubectl is. Left unread, even an empty body would have
    # the connection reset and perhaps the answer lost.
    body = b""
    while size := int(stream.readline(100).split(b";")[0], 16):
        if not 0 < size <= most - len(body):
            return None
        body += stream.read(size)
        stream.readline(3)
    stream.readline(3)  # the end; nobody sends trailers here
    return body


class AdminServer:
    """Serves `routes`, keyed by "METHOD /path".

    `hosts`: addresses, separated by commas. `port`: a number, as text or not, or `unix:PATH`, whatever the
    hosts are; 0 takes a free one, and the attribute tells which. `bounds`: how many bytes the body of a route
    may have, where that is not MAX_BODY.
    """

    def __init__(
        self,
        hosts: str,
        port: str | int,
        routes: Mapping[str, Route],
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def _answer(self) -> None:
                url = urlsplit(self.path)
                name = f"{'GET' if self.command == 'HEAD' else self.command} {url.path}"
                route, most = routes.get(name), (bounds or {}).get(name, MAX_BODY)
                if route is None:
                    known = ", ".join(sorted(routes))
                    response = Response.text(f"no such page; there are: {known}", 404)
                else:
                    try:
                        body = _body(self.headers, self.rfile, most)
                        who, query = self.headers.get("Authorization", ""), dict(parse_qsl(url.query))
                        response = (
                            Response.text(f"body over {most} bytes", 413)
                            if body is None
                            else route(Request(query, body, who))
                        )
                    except Exception as error:  # a fault of one page must not take the port down
                        response = Response.text(f"{self.path}: {error!r}", 500)
                self.send_response(response.status)
                headers = {"Content-Type": response.content_type, **response.headers}
                for name, value in {**headers, "Content-Length": str(len(response.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(response.body)

            do_GET = do_HEAD = do_POST = do_DELETE = _answer

            def log_message(self, format: str, *args: Any) -> None:
                pass  # probes every few seconds would drown the log

        places = [""] if str(port).startswith(UNIX) else hosts.split(",")
        self._servers = [_Server(_bound(host, port), Handler) for host in places]
        first = self._servers[0].server_address
        self.port: int = 0 if isinstance(first, str) else first[1]

    def start(self) -> None:
        """Begin to serve, in daemon threads."""
        for server in self._servers:
            threading.Thread(target=server.serve_forever, name="admin", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and release the port."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
