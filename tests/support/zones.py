"""The zones that stories about DNS write, as lines of zone files, relative to the zone."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query

from bench.processes import free_port
from tests.support.installation import wait


def _zone_file(records: Sequence[str], serial: int, address: str) -> str:
    """With what every zone has. The server is at `address`."""
    head = f"$TTL 5\n@ SOA ns root {serial} 60 60 60 5\n@ NS ns\nns A {address}\n"
    return head + "".join(f"{record}\n" for record in records)


def _is_served(server: str, port: int, zone: str, serial: int) -> bool:
    """Whether a DNS server has this version of a zone."""
    try:
        answer = dns.query.udp(dns.message.make_query(zone, "SOA"), server, 1, port)
    except (OSError, dns.exception.DNSException):
        return False
    return any(record.serial == serial for rrset in answer.answer for record in rrset)


class Zones:
    """Served at an address of this machine, by Knot; `resolver` is where it answers."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address, self._port = folder, address, free_port()
        self._versions: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.resolver = f"{self._address}:{self._port}"

    def write(self, zone: str, *records: str) -> None:
        """The whole of a zone; served on return."""
        self._versions[zone] = serial = self._versions.get(zone, 0) + 1
        (self._folder / f"{zone}.zone").write_text(_zone_file(records, serial, self._address))
        config = (
            f"server:\n  rundir: {self._folder}\n  user: root:root\n  listen: {self._address}@{self._port}\n"
        )
        config += f"database:\n  storage: {self._folder}\nlog:\n  - target: stderr\n    any: error\nzone:\n"
        for name in self._versions:
            config += f"  - domain: {name}\n    file: {self._folder}/{name}.zone\n"
        (self._folder / "knot.conf").write_text(config)
        self.stop()
        self._process = subprocess.Popen(["knotd", "-c", str(self._folder / "knot.conf")])
        wait(lambda: _is_served(self._address, self._port, zone, serial), 20, f"{zone} is not served")

    def stop(self) -> None:
        """End the server."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)


@contextmanager
def zones_at(address: str) -> Iterator[Zones]:
    """Running ones."""
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        made = Zones(Path(folder), address)
        try:
            yield made
        finally:
            made.stop()
