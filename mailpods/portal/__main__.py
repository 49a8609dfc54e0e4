"""The portal program: `python -m mailpods.portal --ca FILE`, with the Guide in its environment."""

import argparse
import os
import signal
import threading
from pathlib import Path

from prometheus_client import REGISTRY, Counter, generate_latest

from mailpods.admin.log import logger
from mailpods.admin.privileges import become
from mailpods.admin.server import AdminServer, Request, Response
from mailpods.directory.guide import VARIABLE, Guide
from mailpods.portal.pages import page

log = logger("portal")

# Pages hold no scripts, and nothing of other servers.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_READ = Counter("mail_portal_requests_total", "Pages that were read.", ["page"])


class Pages:
    """The routes. `authority`: the file with the certificate of the server's own authority, if it has one."""

    def __init__(self, guide: Guide, authority: Path) -> None:
        self._guide, self._authority = guide, authority

    def guide(self, request: Request) -> Response:
        """How to set up a mail program."""
        _READ.labels("guide").inc()
        text = page(self._guide, bool(self._certificate()))
        return Response(200, text.encode(), "text/html; charset=utf-8", _HEADERS)

    def authority(self, request: Request) -> Response:
        """A certificate that computers take by a double click (R-001-35)."""
        _READ.labels("ca").inc()
        found = self._certificate()
        if not found:
            return Response.text("this server's certificate is signed by an authority that is known", 404)
        named = {"Content-Disposition": f'attachment; filename="{self._guide.hostname}.crt"'}
        return Response(200, found, "application/x-x509-ca-cert", {**_HEADERS, **named})

    def _certificate(self) -> bytes:
        # Read anew: it changes under a running program when the authority does.
        try:
            return self._authority.read_bytes()
        except FileNotFoundError:
            return b""


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ca", type=Path, required=True, help="certificate of the own authority; may be missing"
    )
    parser.add_argument("--user", help="run as this user, if started as root")
    options = parser.parse_args()
    guide = Guide.decode(os.environ[VARIABLE])
    pages = Pages(guide, options.ca)
    host = os.environ.get("BIND", "0.0.0.0")
    good = Response.text("ok")
    servers = [
        AdminServer(
            host,
            os.environ["PORT_PORTAL"],
            {"GET /": pages.guide, "GET /ca.crt": pages.authority},
        ),
        AdminServer(
            host,
            os.environ["PORT_ADMIN"],
            {
                "GET /livez": lambda _: good,
                "GET /readyz": lambda _: good,
                "GET /metrics": lambda _: Response(200, generate_latest(REGISTRY)),
            },
        ),
    ]
    become(options.user)
    for server in servers:
        server.start()
    log(f"pages about {guide.hostname}")
    ended = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    main()
