"""run/status.json: what the objects say and where programs are asked, for commands beside `mailpods up`."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mail_operator.engine.runtime import Status
from mail_operator.kinds.meta import ObjectRef
from mail_operator.local.files import write_atomically
from mail_operator.local.pods import Container
from mail_operator.local.ports import Ports


class StatusFile:
    """`put()` statuses, and `write()` the file where something changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[ObjectRef, bytes] = {}
        self._order: list[ObjectRef] | None = None  # of what is put; None: to be made
        self.statuses: dict[ObjectRef, Status] = {}
        self.stale = False  # something changed since it was written

    def put(self, ref: ObjectRef, status: Status) -> bytes:
        """Take a status. Returns it as JSON."""
        if ref not in self.statuses:
            self._order = None
        text = self._texts[ref] = json.dumps(status).encode()
        self.statuses[ref], self.stale = status, True
        return text

    def keep(self, refs: Collection[ObjectRef]) -> None:
        """Drop the others."""
        for ref in self.statuses.keys() - refs:
            del self.statuses[ref], self._texts[ref]
            self._order, self.stale = None, True

    def text(self, ref: ObjectRef) -> bytes:
        """A status as JSON; {} if there is none."""
        return self._texts.get(ref, b"{}")

    def write(self, containers: Sequence[Container], ports: Ports) -> bool:
        """Write the file if that is due. Returns whether it was."""
        if not self.stale:
            return False
        if self._order is None:
            self._order = sorted(self.statuses)
        status: Mapping[str, object] = {
            # Container ("pod/container") -> where such a port is: host:port, or unix:PATH.
            "admin": {c.process.name: c.admin for c in containers},
            "queue": {c.process.name: c.queue for c in containers if c.queue},
            "ports": ports.offered(),
        }
        head = json.dumps(status).encode().removesuffix(b"}")
        # Of ten thousand objects few change: their texts are put together, not made anew.
        rows = b",".join(_row(ref, self._texts[ref]) for ref in self._order)
        write_atomically(self._path, b"".join((head, b', "objects": [', rows, b"]}")))
        self.stale = False
        return True

    def remove(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)


def _row(ref: ObjectRef, status: bytes) -> bytes:
    names = json.dumps(dict(zip(("kind", "namespace", "name"), ref, strict=True))).encode()
    return b"".join((names.removesuffix(b"}"), b', "status": ', status, b"}"))
