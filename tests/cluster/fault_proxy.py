"""A way to the API server that breaks its word, and an operator that goes this way."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from mail_operator.cluster.__main__ import login

from bench.processes import free_port
from tests.cluster.installation import fetched
from tests.cluster.operator import NAMESPACE
from tests.support.installation import wait

_HOP_BY_HOP = {"Host", "Content-Length", "Transfer-Encoding", "Connection"}
_ANSWERS = {
    "409": (409, "Conflict"),
    "429": (429, "TooManyRequests"),
    "500": (500, "InternalError"),
    "503": (503, "ServiceUnavailable"),
}
# Of reads and of writes: a 409 is no answer to a GET. "lost": it was done, and the answer to it is an error.
_OF_READS = ("429", "500", "reset", "503")
_OF_WRITES = ("409", "429", "lost", "500", "reset", "503")
_EVENTS = 3  # that a watch brings before it breaks


class FaultInjectingProxy:
    """Passes every second request on; each of the others meets the next fault in turn.

    Watches end in the middle of an event, or say that their version is too old. `given` counts the faults.
    """

    def __init__(self) -> None:
        self.given: Counter[str] = Counter()
        self._count = 0
        self._reads, self._writes, self._watches = cycle(_OF_READS), cycle(_OF_WRITES), cycle(("cut", "410"))
        self._hung = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a thread of its own."""
        self._thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(runner), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    async def _start(self) -> web.AppRunner:
        info = login()
        self._server = info.server.rstrip("/")
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._client = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=info.as_http_headers(), auto_decompress=False
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        await self._client.close()
        await asyncio.sleep(0)  # for those that were cancelled to end

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return await self._watch(request)
        self._count += 1
        if self._count % 2:
            return await self._pass_on(request)
        write = request.method != "GET"
        if write and not self._hung:
            self._hung = True  # once: a client waits half a minute for it
            self.given["hung"] += 1
            await asyncio.sleep(120)
        fault = next(self._writes if write else self._reads)
        self.given[fault] += 1
        if fault == "lost":
            await self._pass_on(request)
            fault = "500"
        if fault == "reset":
            assert request.transport
            request.transport.abort()
            return web.Response()
        code, reason = _ANSWERS[fault]
        status = {"kind": "Status", "code": code, "reason": reason, "message": "rough"}
        return web.json_response(status, status=code, headers={"Retry-After": "1"} if code == 429 else {})

    def _upstream(self, request: web.Request, body: bytes) -> "aiohttp.client._RequestContextManager":
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        return self._client.request(
            request.method, self._server + request.path_qs, headers=headers, data=body or None
        )

    async def _pass_on(self, request: web.Request) -> web.Response:
        async with self._upstream(request, await request.read()) as answer:
            headers = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
            return web.Response(body=await answer.read(), status=answer.status, headers=headers)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name != "Accept-Encoding"}
        headers = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        async with self._client.get(self._server + request.path_qs, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status)
            await response.prepare(request)
            left = _EVENTS
            with contextlib.suppress(ConnectionError):
                async for line in answer.content:
                    left -= 1
                    if left:
                        await response.write(line)
                        continue
                    fault = next(self._watches)
                    self.given[fault] += 1
                    if fault == "410":
                        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "rough"}
                        await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
                    else:
                        await response.write(line[: len(line) // 2])
                        assert request.transport
                        request.transport.abort()
                    break
            return response


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def another_operator(folder: Path, port: int = 0) -> Iterator[Path]:
    """An operator beside the release's pod, or instead of it, on this machine; its log.

    `port`: the one that it takes for the API server, on loopback; 0: the real one.
    """
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    if port:
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    container = fetched("Deployment", "mailpods-operator", NAMESPACE)["spec"]["template"]["spec"][
        "containers"
    ][0]
    own = free_port()
    environment = {
        **os.environ,
        **{each["name"]: each["value"] for each in container["env"] if "value" in each},
        "KUBECONFIG": str(folder / "kubeconfig"),
        "BIND": "127.0.0.1",
        "PORT_ADMIN": str(own),
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mail_operator.cluster"], env=environment, stderr=output
        )
        try:
            wait(lambda: _ready(own), 120, f"the operator is not ready: {log}")
            yield log
            assert process.poll() is None, "the operator ended"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
