"""One port at which a Prometheus finds the programs of this machine, since it opens no Unix sockets.

/targets lists them for its http_sd_configs, with the labels that a PodMonitor of a cluster gives;
/metrics/<pod>/<container> is what one of them says.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mail_operator.local.asking import Answer, ask
from mailpods.directory.endpoints import bound_socket

_SECONDS = 5.0  # for a program's answer


class MetricsPort:
    """Listens from the start. `programs`: "pod/container" -> endpoint of its admin port, and labels."""

    def __init__(
        self, address: str, port: int, programs: Callable[[], Mapping[str, tuple[str, Mapping[str, str]]]]
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_GET(self) -> None:
                path, known = self.path.partition("?")[0], programs()
                program = path.removeprefix("/metrics/")
                if path == "/targets":
                    here = self.headers.get("Host") or f"{address}:{port}"
                    text = json.dumps([_target(here, name, labels) for name, (_, labels) in known.items()])
                    self._say(200, "application/json", text.encode())
                elif program in known:
                    try:
                        said = ask(known[program][0], "/metrics", seconds=_SECONDS)
                    except (OSError, Answer) as error:
                        self._say(502, "text/plain", f"{program}: {error}\n".encode())
                    else:
                        self._say(200, "text/plain; version=0.0.4; charset=utf-8", said)
                else:
                    pages = ["/targets", *(f"/metrics/{each}" for each in known)]
                    self._say(404, "text/plain", f"there are: {', '.join(pages)}\n".encode())

            def _say(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        bound = bound_socket(address, port)
        self._server = ThreadingHTTPServer((address, port), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.close()
        self._server.socket = bound
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def _target(here: str, program: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
    """One program, in the format of Prometheus' HTTP service discovery."""
    pod, _, container = program.partition("/")
    named = {"__metrics_path__": f"/metrics/{program}", "pod": pod, "container": container, **labels}
    return {"targets": [here], "labels": named}
