"""Records who spoke to whom while the stories ran: how every connection began in the network namespace of the
cluster of processes, and which pods had the addresses."""

import json
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.support.netpol import Pod

# Connections of TCP begin with a SYN alone; of UDP there is DNS.
_FILTER = "(tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn) or (udp dst port 53)"
_PACKET = re.compile(r" IP (\d+(?:\.\d+){3})\.\d+ > (\d+(?:\.\d+){3})\.(\d+): (Flags|)")


class Flow(NamedTuple):
    """From an address to a port of another one: to a Service's, and once more to the pod's behind it."""

    source: str
    destination: str
    port: int
    protocol: str


@dataclass(frozen=True)
class Recording:
    """What is recorded so far."""

    folder: Path

    def flows(self) -> set[Flow]:
        """All of them, each once."""
        time.sleep(1)  # what just happened is on its way
        text = (self.folder / "packets").read_text(errors="replace")
        return {
            Flow(source, destination, int(port), "TCP" if flags else "UDP")
            for source, destination, port, flags in _PACKET.findall(text)
        }

    def pods(self) -> dict[str, list[Pod]]:
        """Address -> the pods that had it."""
        found: dict[str, dict[tuple[str, str], Pod]] = {}
        for line in (self.folder / "pods").read_text().splitlines():
            namespace, name, ip, labels, *ports = line.split(" ")
            if ip:
                named = {
                    port["name"]: port["containerPort"]
                    for container in ports
                    for port in json.loads(container or "[]")
                    if "name" in port
                }
                found.setdefault(ip, {})[namespace, name] = Pod(
                    namespace, name, json.loads(labels or "{}"), named
                )
        return {ip: list(pods.values()) for ip, pods in found.items()}


class _Repeated(threading.Thread):
    """A command whose output goes to a file; it is started again when it ends, as a watch does."""

    def __init__(self, file: Path, *command: str) -> None:
        super().__init__(daemon=True)
        self._file, self._command = file, command
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def run(self) -> None:
        with self._file.open("ab") as output:
            while not self._ending.is_set():
                self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.DEVNULL)
                self._process.wait()
                self._ending.wait(0.2)

    def end(self) -> None:
        self._ending.set()
        if self._process:
            self._process.terminate()
        self.join(10)


@contextmanager
def recording() -> Iterator[Recording]:
    """Until the end of the stories."""
    with tempfile.TemporaryDirectory(prefix="mp-flows-") as name:
        folder = Path(name)
        columns = "{.metadata.namespace} {.metadata.name} {.status.podIP} {.metadata.labels}"
        columns += " {.spec.containers[*].ports}{'\\n'}"
        watch = ("kubectl", "get", "pods", "-A", "--watch", "-o", f"jsonpath={columns}")
        running = [
            _Repeated(folder / "packets", "tcpdump", "--immediate-mode", "-l", "-n", "-i", "any", _FILTER),
            _Repeated(folder / "pods", *watch),
        ]
        try:
            yield Recording(folder)
        finally:
            for each in running:
                each.end()
