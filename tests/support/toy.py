"""A component that does nothing but be there, and its program."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from mail_operator.components.component import ADMIN, DIRECTORY, TMP, WORLD, Component, Container, Port

from mailpods.directory.shards import content_hash

TOY = Component(
    name="toy",
    containers=(
        Container(
            name="toy",
            command=lambda at: ("tests.support.toy", "--directory", "/directory"),
            ports=(
                Port("toy", 7000, public=70, admits=(WORLD,)),
                Port("ask", 7001, admits=("smtp",)),
                ADMIN,
            ),
            mounts=(DIRECTORY, TMP),
            memory="16Mi",
        ),
    ),
    replicas=lambda at: 2,
    talks_to={"store": ("quota",)},
)


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        folder = Path(sys.argv[sys.argv.index("--directory") + 1])
        hashes = {file.name: content_hash(file.read_bytes()) for file in folder.glob("*.json")}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"hashes": hashes}).encode())


if __name__ == "__main__":
    HTTPServer((os.environ["BIND"], int(os.environ["PORT_ADMIN"])), _Admin).serve_forever()
