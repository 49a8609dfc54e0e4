"""Where an endpoint of the directory is: in a cluster DNS knows; a single machine has a file instead.

On one machine what programs of an installation say to each other goes over Unix sockets, in a folder that
they alone may enter. Such a place is written (path, 0), and `unix:PATH` where a program is told to listen.
"""

import asyncio
import http.client
import json
import os
import socket
from pathlib import Path

Place = tuple[str, int]  # host and port, or the path of a Unix socket and 0
UNIX = "unix:"


def resolve(endpoint: str) -> Place:
    """Where an endpoint `host:port` is.

    The file named by the environment's RESOLVE_FILE, a JSON object of endpoints, is asked first: it stands in
    for the cluster's DNS. It is small and read at each call, so that restarted programs are found at once.
    Raises ValueError for an endpoint without a port.
    """
    if path := os.environ.get("RESOLVE_FILE"):
        try:
            with open(path, encoding="utf-8") as file:
                endpoint = json.load(file).get(endpoint, endpoint)
        except FileNotFoundError:
            pass
    if endpoint.startswith(UNIX):
        return endpoint.removeprefix(UNIX), 0
    host, separator, port = endpoint.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"{endpoint!r} is not an endpoint: write host:port")
    return host, int(port)


def is_socket(place: Place) -> bool:
    """Whether it is a Unix socket."""
    return place[0].startswith("/")


async def connect(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a place. Raises OSError."""
    if is_socket(place):
        return await asyncio.open_unix_connection(place[0])
    return await asyncio.open_connection(*place)


def http_connection(place: Place, seconds: float) -> http.client.HTTPConnection:
    """A connection over which the program at a place is asked by HTTP."""
    return (_UnixHttp if is_socket(place) else http.client.HTTPConnection)(*place, timeout=seconds)


class _UnixHttp(http.client.HTTPConnection):
    def __init__(self, path: str, port: int, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def listening_socket(path: str) -> socket.socket:
    """A bound Unix socket, of the folder's owner. What an ended program left there is replaced.

    Raises OSError.
    """
    Path(path).unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        owner = os.stat(os.path.dirname(path))
        os.chmod(path, 0o600)
        if owner.st_uid != os.geteuid():
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return bound


def bound_socket(address: str, port: int, shared: bool = False) -> socket.socket:
    """A bound TCP socket; `shared`: other processes may bind the same port. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # :: and 0.0.0.0 may both be asked for
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{address}:{port}: {error.strerror}") from error
    return bound
