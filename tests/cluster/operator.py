"""The operator, run beside the cluster with an administrator's kubeconfig: tests end it at will."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PORT = 18080


class Operator:
    """A process."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it has listed everything."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mail_operator.reconciler"],
                stdout=log,
                stderr=log,
                env={**os.environ, "PORT_ADMIN": str(PORT), "BIND": "127.0.0.1"},
            )
        end = time.monotonic() + 30
        while not self._synced():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def _synced(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None
