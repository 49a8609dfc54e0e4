"""As much of an API server as kubectl needs to find pods and to reach them by the pod proxy."""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mailpods.directory.endpoints import http_connection, resolve

_PROXY = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/:]+):9102/proxy(/.*)")
_DISCOVERY: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["list"]}
        ],
    },
}


def kubectl() -> str | None:
    """The folder of a kubectl, if there is one: that of ./run cluster, or one on the PATH."""
    cache = Path(os.environ.get("MAILPODS_CACHE", "/var/cache/mailpods"))
    if (cache / "cluster" / "bin" / "kubectl").exists():
        return str(cache / "cluster" / "bin")
    found = shutil.which("kubectl")
    return str(Path(found).parent) if found else None


def pod(name: str, server: str = "main", phase: str = "Running", namespace: str = "t") -> dict[str, Any]:
    """An smtp pod, as far as the plugin looks."""
    labels = {
        "app.kubernetes.io/name": "mailpods",
        "app.kubernetes.io/instance": server,
        "app.kubernetes.io/component": "smtp",
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": phase}}


def _forbidden(user: str, verb: str, resource: str, namespace: str) -> dict[str, Any]:
    message = (
        f'{resource} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group "" '
        f'in the namespace "{namespace}"'
    )
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Forbidden",
        "message": message,
        "code": 403,
    }


@contextmanager
def api_server(
    pods: Sequence[Mapping[str, Any]],
    admin: Mapping[str, str],
    allowed: Sequence[str] = ("get", "create", "delete"),
) -> Iterator[str]:
    """Serves `pods`; `admin` says where their admin ports are, `allowed`: on pods/proxy. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body, url = self._body(), urlsplit(self.path)
            if proxied := _PROXY.fullmatch(self.path):
                verb = {"GET": "get", "POST": "create", "DELETE": "delete"}[self.command]
                if verb in allowed:
                    self._send(*self._forward(admin[proxied[2]], proxied[3], body))
                else:
                    self._send(403, json.dumps(_forbidden("eve", verb, "pods/proxy", proxied[1])).encode())
            elif url.path in _DISCOVERY:
                self._send(200, json.dumps(_DISCOVERY[url.path]).encode())
            elif found := re.fullmatch(r"/api/v1/(?:namespaces/([^/]+)/)?pods", url.path):
                self._send(200, json.dumps(self._list(found[1], parse_qs(url.query))).encode())
            else:
                self._send(404, b"{}")

        def _list(self, namespace: str | None, query: Mapping[str, list[str]]) -> dict[str, Any]:
            # One of both forms: key=value, and key in (one,other).
            terms = re.findall(r"([^=,\s]+)(?:=([^,]*)| in \(([^)]*)\))", query["labelSelector"][0])
            wanted = {key: {value} if value else set(values.split(",")) for key, value, values in terms}
            items = [
                each
                for each in pods
                if namespace in (None, each["metadata"]["namespace"])
                and all(each["metadata"]["labels"].get(key) in values for key, values in wanted.items())
            ]
            return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

        def _forward(self, endpoint: str, path: str, body: bytes | None) -> tuple[int, bytes]:
            connection = http_connection(resolve(endpoint), 10)
            try:
                # In chunks again, as the real proxy does.
                connection.request(self.command, path, None if body is None else iter([body]))
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()

        def _body(self) -> bytes | None:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return None
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def kubeconfig(path: Path, url: str, namespace: str = "t") -> Path:
    """Write a kubeconfig for such a server."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "eve", "user": {"token": "none"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "here", "user": "eve", "namespace": namespace}},
            {"name": "elsewhere", "context": {"cluster": "here", "user": "eve", "namespace": "empty"}},
        ],
    }
    path.write_text(json.dumps(document))
    return path
