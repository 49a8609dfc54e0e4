"""An operator that is limited to namespaces asks for nothing outside them, and sees all that is in them."""

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from typing import Any

import kopf
from aiohttp import web
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.kinds import BUILT_IN, collection
from mail_operator.cluster.runtime import ClusterRuntime
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import ObjectRef

WATCHED = ("mail-system", "tenant")


class FakeApiServer:
    """Lists and watches objects by the paths of their collections; everything else it forbids."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.asked: set[str] = set()  # paths, with the name where one is selected
        self._watches: dict[str, asyncio.Queue[dict[str, Any] | None]] = defaultdict(asyncio.Queue)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list, or a watch that goes on."""
        path, query = request.path, request.query
        self.asked.add(path + query.get("fieldSelector", "").replace("metadata.name=", "/"))
        if "watch" not in query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": self.objects[path]})
        response = web.StreamResponse()
        await response.prepare(request)
        while (event := await self._watches[path].get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        self._watches[path].put_nowait(None)  # Services are watched twice
        return response

    def end(self) -> None:
        """End all watches."""
        for watch in self._watches.values():
            watch.put_nowait(None)

    def tell(self, path: str, type_: str, item: dict[str, Any]) -> None:
        """An event for who watches."""
        self._watches[path].put_nowait({"type": type_, "object": item})


def mailbox(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "mailpods.io/v1alpha1",
        "kind": "Mailbox",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": name,
            "resourceVersion": "2",
            "generation": 1,
        },
        "spec": {"domainRef": {"name": "d"}},
    }


async def _listed(server: FakeApiServer, namespaces: tuple[str, ...], until: str = "") -> ClusterRuntime:
    """A runtime that has listed everything, and seen a mailbox of that name, where one is named."""
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = ApiClient(lambda: kopf.ConnectionInfo(server=f"http://127.0.0.1:{port}"), "test")
    await client.open()
    runtime = ClusterRuntime(client, "image", lambda text: None, namespaces)
    news = asyncio.Event()
    task = asyncio.create_task(runtime.run(lambda ref: news.set() if ref.name == until else None))
    try:
        async with asyncio.timeout(20):
            await runtime.synced()
            if until:
                await news.wait()
        return runtime
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()
        server.end()
        await runner.cleanup()


def _collections(namespace: str = "") -> set[str]:
    unwatched = ("Namespace", "Event", "Certificate", "PersistentVolumeClaim")
    kinds = [*KINDS, *(kind for kind in BUILT_IN if kind not in unwatched)]
    return {collection(kind, namespace) for kind in kinds}


def test_it_looks_at_its_namespaces_alone() -> None:
    server = FakeApiServer()
    asyncio.run(_listed(server, WATCHED))
    names = {f"/api/v1/namespaces/{namespace}" for namespace in WATCHED}
    assert server.asked == {path for namespace in WATCHED for path in _collections(namespace)} | names


def test_by_default_it_looks_everywhere() -> None:
    server = FakeApiServer()
    asyncio.run(_listed(server, ()))
    assert server.asked == _collections() | {"/api/v1/namespaces"}


def test_what_is_listed_and_what_comes_later_is_seen_in_each() -> None:
    server = FakeApiServer()
    for namespace in WATCHED:
        server.objects[collection("Mailbox", namespace)].append(mailbox(namespace, "old"))
    server.tell(collection("Mailbox", "mail-system"), "DELETED", mailbox("mail-system", "old"))
    server.tell(collection("Mailbox", "mail-system"), "ADDED", mailbox("mail-system", "new"))
    runtime = asyncio.run(_listed(server, WATCHED, until="new"))
    mailboxes = runtime.resources["Mailbox"]
    assert set(mailboxes.objects) == {("tenant", "old"), ("mail-system", "new")}
    assert mailboxes.get(("tenant", "old")) is not None
    assert runtime.observed(ObjectRef("Mailbox", "mail-system", "old")) is None
