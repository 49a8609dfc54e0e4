"""What Dovecot counts, in our names: its OpenMetrics, from a socket in its own folder, not from a port."""

import re
import socket
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mailpods.store.accounts import Version

SOCKET = "http"  # Dovecot speaks HTTP on a listener of `service stats` with this name, whatever its kind
_METRICS = {"logins_ok": ("ok", ""), "logins_wrong": ("wrong", "NOT ")}  # Dovecot's name -> result, filter
_SAMPLE = re.compile(r'^dovecot_(logins_\w+?)_total\{(?:service|protocol)="(\w+)"\} (\d+)$', re.M)
_SECONDS = 2.0  # that Dovecot may take for an answer


def metrics(version: Version) -> list[str]:
    """The part of dovecot.conf that makes Dovecot count logins, and offer the counts."""
    by = "group_by protocol {\n  }" if version >= (2, 4) else "group_by = service"
    lines = [
        f"metric {name} {{\n  filter = event=auth_request_finished AND {no}success=yes\n  {by}\n}}"
        for name, (_, no) in _METRICS.items()
    ]
    return [*lines, f"service stats {{\n  unix_listener {SOCKET} {{\n    mode = 0600\n  }}\n}}"]


def counts(text: str) -> dict[tuple[str, str], int]:
    """(protocol, result) -> logins, from Dovecot's OpenMetrics."""
    return {
        (protocol, _METRICS[name][0]): int(number)
        for name, protocol, number in _SAMPLE.findall(text)
        if name in _METRICS
    }


def ask(path: Path) -> str:
    """Dovecot's OpenMetrics. Raises OSError where it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: dovecot\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
            if b"\n# EOF" in answer:
                break
    return answer.decode(errors="replace")


class Logins(Collector):
    """The logins of one Dovecot; they begin anew when it does, as Prometheus expects of counters."""

    def __init__(self, run: Path, protocols: Iterable[str]) -> None:
        """`run`: Dovecot's base_dir. The series of `protocols` are there before the first login."""
        self._socket = run / SOCKET
        self._known = {(protocol, result): 0 for protocol in protocols for result in ("ok", "wrong")}

    def collect(self) -> Iterable[CounterMetricFamily]:
        """One family; none while Dovecot does not answer."""
        try:
            found = counts(ask(self._socket))
        except OSError:
            return
        family = CounterMetricFamily(
            "mail_store_logins",
            "Attempts to log in that Dovecot answered, by protocol and result: ok, wrong.",
            labels=("protocol", "result"),
        )
        for (protocol, result), number in sorted({**self._known, **found}.items()):
            family.add_metric((protocol, result), number)
        yield family
