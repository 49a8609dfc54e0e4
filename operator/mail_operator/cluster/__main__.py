"""The operator: `python -m mail_operator.cluster`. kopf runs its life, this module ties it to ours."""

import asyncio
import logging
import os
import ssl
import sys
import time
from typing import Any

import kopf
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.runtime import ClusterRuntime
from mail_operator.engine.engine import Engine

MANAGER = "mailpods"
PORT = 8080
_LOG = logging.getLogger("mailpods")


class Operator:
    """One run of the engine, with its HTTP port (PORT_ADMIN, BIND): /livez, /readyz, /metrics."""

    def __init__(self) -> None:
        self.client = ApiClient(login, MANAGER)
        image = os.environ.get("MAIL_IMAGE", "mailpods:0.1.0")
        # WATCH_NAMESPACES=a,b: those alone, and rights in no other are needed.
        namespaces = [name for name in os.environ.get("WATCH_NAMESPACES", "").split(",") if name]
        self.runtime = ClusterRuntime(self.client, image, _LOG.info, namespaces)
        self.engine = Engine(self.runtime, _LOG.info)
        self.task: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Log in and begin."""
        await self.client.open()
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(
            self._runner, os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT_ADMIN", PORT))
        ).start()
        self.task = asyncio.create_task(self.engine.run())
        self.task.add_done_callback(_ended)

    async def stop(self) -> None:
        """End everything."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self._runner:
            await self._runner.cleanup()
        await self.runtime.close()
        await self.client.close()

    async def _livez(self, request: web.Request) -> web.Response:
        silent = time.monotonic() - self.engine.beat
        alive = self.task is not None and not self.task.done() and silent < 2 * self.runtime.timings.look
        return web.Response(text=f"last round {silent:.0f} s ago\n", status=200 if alive else 500)

    async def _readyz(self, request: web.Request) -> web.Response:
        return web.Response(
            text="synced\n" if self.engine.synced else "listing\n",
            status=200 if self.engine.synced else 503,
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _ended(task: asyncio.Task[None]) -> None:
    """An engine that ended by itself is restarted with its process: the kubelet does that."""
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("the engine failed: %r", error, exc_info=error)
        os._exit(1)


class _Connection(kopf.ConnectionInfo):
    """Credentials for kopf and for us."""

    def as_ssl_context(self) -> ssl.SSLContext:
        """Verified, as by kubectl: without the formal strictness that is Python's default since 3.13.

        That refuses certificates that name no authority key, as clusters set up by openssl have them.
        """
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def login(**_: Any) -> kopf.ConnectionInfo:
    """The credentials of a pod, or else of KUBECONFIG. Raises kopf.LoginError where there are none."""
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise kopf.LoginError("no credentials: run it in a pod with a service account, or set KUBECONFIG")
    return _Connection(**vars(info))


def main() -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    registry = kopf.OperatorRegistry()
    operator: list[Operator] = []

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # Events are the engine's, on transitions alone
        settings.scanning.disabled = True
        settings.peering.standalone = True
        operator.append(Operator())
        await operator[0].start()

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        for each in operator:
            await each.stop()

    kopf.on.login(registry=registry)(login)
    asyncio.run(kopf.operator(registry=registry, standalone=True, clusterwide=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
