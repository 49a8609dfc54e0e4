"""Asks the API server: JSON over HTTP, with the errors of the API conventions, and patience.

What is worth another try (429, 5xx, a connection that breaks) is tried again here, with backoff and jitter,
so that nobody else needs to know of it. What is not is an ApiError.
"""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import kopf

from mail_operator.cluster import metrics
from mail_operator.engine.runtime import Unavailable

Json = dict[str, Any]
Login = Callable[[], kopf.ConnectionInfo]

TRIES = 6
BACKOFF_SECONDS = 0.2  # doubled at each try, with jitter
MOST_BACKOFF_SECONDS = 20.0
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0
CONNECTIONS = 24  # 16 of the status writers', the watches' are not counted here
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_JSON_PATCH = "application/json-patch+json"
_MERGE = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"


class ApiError(Unavailable):
    """The API server said no: `code` as in HTTP, `reason` as in the Status that came with it.

    `fields`: those that it names as causes, as status.dns.records[3].
    """

    def __init__(self, code: int, reason: str, message: str, fields: Iterable[str] = ()) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.fields = code, reason, tuple(fields)


class Unreachable(Unavailable):
    """The API server did not answer, however often it was asked."""


class ApiClient:
    """One for each operator. `manager` is the field manager of what it applies."""

    def __init__(self, login: Login, manager: str) -> None:
        self._login = login
        self._manager = manager
        self._session: aiohttp.ClientSession | None = None
        self._watching: aiohttp.ClientSession | None = None
        self._server = ""
        self._authorization: dict[str, str] = {}
        self.namespace = "default"  # of the credentials: where the operator itself lives

    async def open(self) -> None:
        """Log in. Raises kopf.LoginError where there are no credentials."""
        info = self._login()
        self._server = info.server.rstrip("/")
        self.namespace = info.default_namespace or self.namespace
        # Watches have connections of their own, so that they never wait for one, nor keep others waiting.
        self._session = _session(info, CONNECTIONS)
        self._watching = _session(info, 0)
        self._authorization = info.as_http_headers()

    def renew(self) -> None:
        """Log in again: the token of a service account changes within the hour."""
        self._authorization = self._login().as_http_headers()

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._session, self._watching):
            if session is not None:
                await session.close()

    async def get(self, path: str, *, metadata_only: bool = False, **query: str) -> Json:
        """GET; of a list with `metadata_only` the names, labels and versions without the contents."""
        headers = {"Accept": _METADATA.format("List")} if metadata_only else {}
        return await self._request("GET", path, query, None, headers)

    async def metadata(self, path: str) -> Json:
        """The metadata of one object."""
        answer = await self._request("GET", path, {}, None, {"Accept": _METADATA.format("")})
        found: Json = answer["metadata"]
        return found

    async def create(self, path: str, body: Mapping[str, Any]) -> Json:
        """POST to a collection. Raises ApiError 409 where it exists."""
        return await self._request("POST", path, {}, body, {"Content-Type": "application/json"})

    async def apply(
        self, path: str, body: Mapping[str, Any], *, force: bool = True, manager: str = ""
    ) -> Json:
        """Server-side apply; without `force` a field that somebody else owns is an ApiError 409.

        What `manager`, if not the client's, applied before and does not now is taken away.
        """
        query = {"fieldManager": manager or self._manager, "force": "true" if force else "false"}
        return await self._request("PATCH", path, query, body, {"Content-Type": _APPLY})

    async def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        """JSON merge patch (RFC 7386)."""
        query = {"fieldManager": self._manager}
        return await self._request("PATCH", path, query, body, {"Content-Type": _MERGE})

    async def replace(self, path: str, at: str, value: Any) -> Json:
        """Replace what is at this JSON pointer, whoever owns its fields (RFC 6902)."""
        query = {"fieldManager": self._manager}
        body = [{"op": "replace", "path": at, "value": value}]
        return await self._request("PATCH", path, query, body, {"Content-Type": _JSON_PATCH})

    async def find(self, collection: str, name: str, *, metadata_only: bool = False) -> Json | None:
        """One object of a collection, by the right to list it; None if there is none."""
        selector = f"metadata.name={name}"
        found = await self.get(collection, metadata_only=metadata_only, fieldSelector=selector)
        return next(iter(found["items"] or ()), None)

    async def delete(self, path: str, *, orphan: bool = False) -> None:
        """DELETE, in the background; what is gone already is no error. `orphan`: what it owns stays."""
        policy = "Orphan" if orphan else "Background"
        try:
            await self._request("DELETE", path, {"propagationPolicy": policy}, None, {})
        except ApiError as error:
            if error.code != 404:
                raise

    @asynccontextmanager
    async def watch(
        self, path: str, *, metadata_only: bool, seconds: int, **query: str
    ) -> AsyncIterator[Any]:
        """The open stream of a watch: an iterator of its events. The server ends it after `seconds`."""
        assert self._watching is not None
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        headers = {**self._authorization, **({"Accept": _METADATA.format("")} if metadata_only else {})}
        # A dead server is noticed by the silence: bookmarks come at least every minute.
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=CONNECT_SECONDS, sock_read=90)
        url = self._server + path
        async with self._watching.get(url, params=query, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise await _error(response)
            yield _events(response)

    async def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Any, headers: Mapping[str, str]
    ) -> Json:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        backoff = BACKOFF_SECONDS
        for left in reversed(range(TRIES)):
            assert self._session is not None
            wait = backoff
            try:
                async with self._session.request(
                    method,
                    self._server + path,
                    params=query,
                    data=data,
                    headers={**headers, **self._authorization},
                ) as response:
                    metrics.REQUESTS.labels(method, response.status).inc()
                    if response.status < 300:
                        answer: Json = json.loads(await response.read())
                        return answer
                    error = await _error(response)
                    if response.status == 401 and left:
                        self.renew()
                    elif not left or (response.status != 429 and response.status < 500):
                        raise error
                    wait = max(wait, retry_after(response.headers.get("Retry-After", "")))
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                metrics.REQUESTS.labels(method, 0).inc()
                if not left:
                    raise Unreachable(f"the API server does not answer: {error!r}") from error
            await asyncio.sleep(min(wait, MOST_BACKOFF_SECONDS) * random.uniform(0.5, 1.5))
            backoff *= 2
        raise AssertionError("unreachable")


def retry_after(value: str) -> float:
    """The seconds that a Retry-After header asks for, a number or a date; 0 if none (RFC 9110 §10.2.3)."""
    try:
        return max(float(value), 0.0) if value.strip().isdecimal() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _seconds_until(date: str) -> float:
    return max(parsedate_to_datetime(date).timestamp() - time.time(), 0.0)


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    text = await response.text(errors="replace")
    try:
        status = json.loads(text)
        causes = (status.get("details") or {}).get("causes") or ()
        fields = [str(cause.get("field", "")) for cause in causes]
        return ApiError(
            response.status, str(status.get("reason", "")), str(status.get("message", "")), fields
        )
    except (ValueError, AttributeError):
        return ApiError(response.status, response.reason or "", text[:300])


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    # Not by readline(), which has a bound: an object may have 1.5 MiB.
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _socket_with_keepalive(address: aiohttp.AddrInfoType) -> socket.socket:
    """Notices within half a minute that the network swallows all: watches are silent for long, too."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000)  # milliseconds
    return made


def _session(info: kopf.ConnectionInfo, connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, ssl=info.as_ssl_context(), socket_factory=_socket_with_keepalive
        ),
        headers={"User-Agent": "mailpods"},
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
        trust_env=info.trust_env,
    )
