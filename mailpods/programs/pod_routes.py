"""What the admin port of an smtp pod answers: metrics, health, and which directory its workers have."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

from mailpods.admin.certificate import EXPIRY_HELP, EXPIRY_NAME, expiry
from mailpods.admin.server import Response
from mailpods.delivery.queue_metrics import Census
from mailpods.smtp.tls import CERTIFICATE
from mailpods.spool.view import QueueView
from mailpods.supervision.workers import Workers


class Pod:
    """`spool` and `tls` are folders."""

    def __init__(
        self, workers: Workers, views: Callable[[], Iterable[QueueView]], spool: Path, tls: Path
    ) -> None:
        self._workers, self._views, self._spool, self._tls = workers, views, spool, tls
        self._census = Census(views)

    def routes(self) -> Mapping[str, Any]:
        """By method and path."""
        return {
            "GET /metrics": lambda _: self._metrics(),
            "GET /livez": lambda _: self._health(live=True),
            "GET /readyz": lambda _: self._health(live=False),
            "GET /directory": lambda _: self._directory(),
        }

    def _metrics(self) -> Response:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        depths = [view.depth() for view in self._views()]
        oldest = min((o for _, o in depths if o), default=None)
        disk = os.statvfs(self._spool)
        problems = {name for w in self._workers.running for name in w.state.get("problems", {})}
        gauges: dict[str, tuple[str, float]] = {
            "mail_queue_recipients": ("Recipients that wait in the spools.", sum(n for n, _ in depths)),
            "mail_queue_oldest_seconds": (
                "Age of the oldest message in the spools.",
                time.time() - oldest if oldest else 0,
            ),
            "mail_spool_free_bytes": (
                "Space that is left on the spools' volume.",
                disk.f_bavail * disk.f_frsize,
            ),
            "mail_spool_size_bytes": ("Size of the spools' volume.", disk.f_blocks * disk.f_frsize),
            "mail_directory_problems": (
                "Files of the directory whose newest version is not in use.",
                len(problems),
            ),
            EXPIRY_NAME: (EXPIRY_HELP, expiry(self._tls / CERTIFICATE)),
        }
        families = [GaugeMetricFamily(name, text, value) for name, (text, value) in gauges.items()]
        families.append(self._connections())

        class _Gauges:
            def collect(self) -> list[GaugeMetricFamily]:
                return families

        registry.register(_Gauges())
        registry.register(self._census)
        return Response(body=generate_latest(registry), content_type="text/plain; version=0.0.4")

    def _connections(self) -> GaugeMetricFamily:
        text = "Connections for delivery that are open or being opened, by destination."
        family = GaugeMetricFamily("mail_delivery_connections_open", text, labels=["destination"])
        states = [each.state.get("connections", {}) for each in self._workers.running]
        for destination, count in sum(map(Counter, states), Counter[str]()).items():
            family.add_metric([destination], count)
        return family

    def _health(self, live: bool) -> Response:
        workers = self._workers.running
        if hung := [each.pid for each in workers if each.hung]:
            return Response.text(f"workers {hung} say nothing", 503)
        if not live and (self._workers.stopping or not all(w.state.get("ready") for w in workers)):
            return Response.text("no directory yet, or stopping", 503)
        return Response.text("ok")

    def _directory(self) -> Response:
        """What all workers have loaded."""
        states = [w.state for w in self._workers.running]
        loaded = [s.get("hashes", {}).items() for s in states]
        common = dict(set.intersection(*map(set, loaded))) if loaded else {}
        problems = {file: text for s in states for file, text in s.get("problems", {}).items()}
        return Response.json({"hashes": common, "problems": problems})
