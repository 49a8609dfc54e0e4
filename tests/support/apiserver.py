"""As much of an API server as the operator talks to, in memory: list, watch, create, patch, delete.

It knows no schema and no field managers: an apply is a deep merge. Pods of workloads are there at once,
and their admin ports answer with the hashes of the Secrets that they mount.
"""

import asyncio
import base64
import copy
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from mail_operator.cluster.kinds import BUILT_IN
from mail_operator.components.component import Component
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import API_VERSION

from mailpods.directory.shards import content_hash

Json = dict[str, Any]
_PLURALS = {each.plural: kind for kind, each in KINDS.items()} | {
    p: kind for kind, (_, p) in BUILT_IN.items()
}


class ApiServer:
    """`start()` it on a loop; `objects` are those of all kinds by (kind, namespace, name).

    Pods of `frozen` components load nothing.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.writes: Counter[str] = Counter()
        self.frozen: frozenset[str] = frozenset()
        self._components = components
        self.url = ""
        self._notifying: set[asyncio.Task[None]] = set()
        self._log: list[tuple[int, str, Json]] = []  # version, type, object
        self._news = asyncio.Condition()
        self._version = 0
        self._runners: list[web.AppRunner] = []
        self._pods = 0
        self._loaded: dict[tuple[str, int], dict[str, str]] = {}

    async def start(self) -> None:
        """Listen on loopback."""
        app = web.Application()
        for root in ("/api/{version}", "/apis/{group}/{version}"):
            for place in ("/namespaces/{namespace}/{plural}", "/{plural}"):
                app.router.add_route("*", f"{root}{place}", self._collection)
                app.router.add_route("*", f"{root}{place}/{{name}}", self._object)
                app.router.add_route("*", f"{root}{place}/{{name}}/{{sub}}", self._object)
        self.url = f"http://127.0.0.1:{await self._listen(app, '127.0.0.1', 0)}"
        self.put({"kind": "Namespace", "metadata": {"name": "t"}})
        self.put({"kind": "Namespace", "metadata": {"name": "operator"}})

    async def _listen(self, app: web.Application, host: str, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Close all ports."""
        for runner in self._runners:
            await runner.cleanup()

    # Storage ----------------------------------------------------------------------------------------------

    def put(self, item: Json) -> Json:
        """Store an object as it is, with the metadata that a server gives it."""
        kind, meta = item["kind"], item["metadata"]
        key = (kind, meta.get("namespace", ""), meta["name"])
        before = self.objects.get(key)
        item = copy.deepcopy(item)
        meta = item["metadata"]
        meta.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        generation = before["metadata"].get("generation", 1) if before else 1
        if before and before.get("spec") != item.get("spec"):
            generation += 1
        if "spec" in item:
            meta["generation"] = generation
        if before and _bare(before) == _bare(item):
            return before
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            self.objects.pop(key, None)
            self._tell("DELETED", item)
            return item
        self.objects[key] = item
        self._tell("MODIFIED" if before else "ADDED", item)
        return item

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """As DELETE."""
        item = copy.deepcopy(self.objects[kind, namespace, name])
        item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        self.put(item)

    def _tell(self, type_: str, item: Json) -> None:
        self._log.append((self._version, type_, item))
        task = asyncio.ensure_future(self._notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    # HTTP -------------------------------------------------------------------------------------------------

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        kind = _PLURALS[request.match_info["plural"]]
        namespace = request.match_info.get("namespace", "")
        if request.method == "POST":
            return await self._create(kind, namespace, await request.json())
        bare = "PartialObjectMetadata" in request.headers.get("Accept", "")
        selects = _selector(request, namespace)
        if request.query.get("watch"):
            return await self._watch(request, kind, bare)
        items = [_shown(o, bare) for (k, _, _), o in self.objects.items() if k == kind and selects(o)]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request, kind: str, bare: bool) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        reached, selects = int(request.query["resourceVersion"]), _selector(request, "")
        while True:
            for version, type_, item in [each for each in self._log if each[0] > reached]:
                reached = version
                if item["kind"] == kind and selects(item):
                    line = json.dumps({"type": type_, "object": _shown(item, bare)}) + "\n"
                    await response.write(line.encode())
            async with self._news:
                if not any(each[0] > reached for each in self._log):
                    await self._news.wait()

    async def _create(self, kind: str, namespace: str, body: Json) -> web.Response:
        meta = body["metadata"]
        if "generateName" in meta:
            meta["name"] = meta["generateName"] + uuid.uuid4().hex[:8]
        if (kind, namespace, meta["name"]) in self.objects:
            return _status(409, "AlreadyExists")
        self.writes[f"create {kind}"] += 1
        return web.json_response(self.put({**body, "kind": kind}), status=201)

    async def _object(self, request: web.Request) -> web.Response:
        info = request.match_info
        if info["plural"] == "customresourcedefinitions":
            return web.json_response({"metadata": {"name": info["name"]}})
        kind, sub = _PLURALS[info["plural"]], info.get("sub", "")
        key = (kind, info.get("namespace", ""), info["name"])
        there = self.objects.get(key)
        is_apply = "apply-patch" in request.headers.get("Content-Type", "")
        if there is None and not (request.method == "PATCH" and is_apply and not sub):
            return _status(404, "NotFound")
        if request.method == "GET":
            return web.json_response(there)
        if request.method == "DELETE":
            self.writes[f"delete {kind}"] += 1
            self.delete(*key)
            return web.json_response({})
        body = await request.json()
        if sub == "eviction":
            self.writes["evict"] += 1
            self.delete(*key)
            return web.json_response({})
        if isinstance(body, list):  # RFC 6902, of which one operation is used
            assert there and [each["op"] for each in body] == ["replace"]
            self.writes[f"replace {kind}"] += 1
            return web.json_response(self._replace(there, body[0]["path"], body[0]["value"]))
        wanted = body["metadata"].get("resourceVersion") if "metadata" in body else None
        if there and wanted and wanted != there["metadata"]["resourceVersion"]:
            return _status(409, "Conflict")
        merged = _merged(there or {"kind": kind}, {"status": body["status"]} if sub == "status" else body)
        merged["kind"] = kind
        after = self.put(merged)
        if there is not after:
            self.writes[f"patch {kind} {sub}"] += 1
        if kind in ("StatefulSet", "Deployment") and there is None:
            await self._run(after)
        return web.json_response(after)

    def _replace(self, there: Json, pointer: str, value: Any) -> Json:
        item = copy.deepcopy(there)
        *parents, last = pointer.strip("/").split("/")
        at = item
        for step in parents:
            at = at[step]
        at[last] = value
        item["metadata"].pop("managedFields", None)  # nobody else owns any of it now
        return self.put(item)

    # Pods -------------------------------------------------------------------------------------------------

    async def _run(self, owner: Json) -> None:
        meta = owner["metadata"]
        labels = owner["spec"]["template"]["metadata"]["labels"]
        component = next(c for c in self._components if c.name == labels["app.kubernetes.io/component"])
        for n in range(owner["spec"].get("replicas", 1)):
            self._pods += 1
            address = f"127.77.0.{self._pods}"
            for port, mount in component.reports:
                await self._listen(
                    self._admin(meta["namespace"], component.name, mount, (address, port)), address, port
                )
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            self.put(
                {
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{meta['name']}-{n}",
                        "namespace": meta["namespace"],
                        "labels": {**labels, "apps.kubernetes.io/pod-index": str(n)},
                    },
                    "status": {"podIP": address, "conditions": [ready]},
                }
            )

    def _admin(self, namespace: str, name: str, mount: str, at: tuple[str, int]) -> web.Application:
        async def directory(request: web.Request) -> web.Response:
            if name not in self.frozen:
                files = self.files(namespace, mount)
                self._loaded[at] = {name: content_hash(data) for name, data in files.items()}
            return web.json_response({"hashes": self._loaded.get(at, {})})

        app = web.Application()
        app.router.add_get("/directory", directory)
        return app

    def files(self, namespace: str, mount: str) -> dict[str, bytes]:
        """The files of the pods of a namespace's server."""
        found: dict[str, bytes] = {}
        for (kind, where, _), item in self.objects.items():
            if kind == "Secret" and where == namespace and item.get("type") == f"mailpods.io/{mount}":
                found |= {k: base64.b64decode(v) for k, v in item["data"].items() if k != "versions.json"}
        return found


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "reason": reason, "message": reason}, status=code)


def _shown(item: Json, bare: bool) -> Json:
    kind = item["kind"]
    version = API_VERSION if kind in KINDS else BUILT_IN[kind][0]
    return {"apiVersion": version, "kind": kind, "metadata": item["metadata"]} if bare else item


def _bare(item: Json) -> Json:
    hidden = ("resourceVersion", "generation")
    return {**item, "metadata": {k: v for k, v in item["metadata"].items() if k not in hidden}}


def _selector(request: web.Request, namespace: str) -> Any:
    labels = [part.partition("=") for part in request.query.get("labelSelector", "").split(",") if part]
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")

    def selects(item: Json) -> bool:
        meta = item["metadata"]
        there = meta.get("labels", {})
        return (
            (not namespace or meta.get("namespace") == namespace)
            and (not name or meta["name"] == name)
            and all(k in there and (not sep or there[k] == v) for k, sep, v in labels)
        )

    return selects


def _merged(there: Json, patch: Json) -> Json:
    """RFC 7386."""
    found = dict(there)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            found[key] = _merged(found[key] if isinstance(found.get(key), dict) else {}, value)
        else:
            found[key] = value
    return found
