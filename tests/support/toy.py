"""A component that does nothing but be there, and its program."""

import os
import sys
import threading
from pathlib import Path

from mail_operator.components.component import ADMIN, DIRECTORY, TMP, WORLD, Component, Container, Port

from mailpods.admin.server import AdminServer, Request, Response
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


def _directory(_: Request) -> Response:
    folder = Path(sys.argv[sys.argv.index("--directory") + 1])
    return Response.json({"hashes": {f.name: content_hash(f.read_bytes()) for f in folder.glob("*.json")}})


if __name__ == "__main__":
    routes = {"GET /directory": _directory, "GET /metrics": lambda _: Response.text("toys 1")}
    AdminServer(os.environ["BIND"], os.environ["PORT_ADMIN"], routes).start()
    threading.Event().wait()
