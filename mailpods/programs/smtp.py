"""The smtp program: binds the ports, gives up root, and keeps one worker process for each core alive."""

import argparse
import asyncio
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

# The workers' counters lie in files that this process adds up. prometheus_client looks here when imported.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="mailpods-smtp-"))

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

from mailpods.admin import parcels
from mailpods.admin.certificate import EXPIRY_HELP, EXPIRY_NAME, expiry
from mailpods.admin.privileges import become
from mailpods.admin.server import AdminServer, Request, Response
from mailpods.bulk import suppressions
from mailpods.delivery import returns
from mailpods.delivery.queue_metrics import Census
from mailpods.delivery.returns import Returned
from mailpods.delivery.tls_reports import TlsReports
from mailpods.directory.reader import DirectoryReader
from mailpods.dns.resolver import Resolvers
from mailpods.programs import worker
from mailpods.reception.state import log
from mailpods.rules.connection_limits import ClientCounts
from mailpods.rules.explain import explain
from mailpods.smtp.listeners import Bound, bind, ports
from mailpods.smtp.tls import CERTIFICATE
from mailpods.spool import transfer
from mailpods.spool.message import MessageId
from mailpods.spool.spool import Event
from mailpods.spool.view import QueueView

SILENCE_SECONDS = 15.0  # after which a worker counts as hung
RESTART_SECONDS = 1.0
HANDOVER_SECONDS = 80.0  # of the two minutes that a pod has to end


@dataclass
class _Worker:
    """A running worker, and what it last said."""

    pid: int
    report: socket.socket
    buffer: bytes = b""
    state: dict[str, Any] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)


class Program:
    """The parent process."""

    def __init__(self, options: worker.Options, sockets: list[list[Bound]]) -> None:
        self._options = options
        self._sockets = sockets
        self._clients = ClientCounts(len(sockets))
        self._workers: dict[int, _Worker] = {}
        self._reader = DirectoryReader(options.directory, options.buckets)
        self._dns = Resolvers(self._reader)
        self._stopping = False
        self._ending = threading.Event()
        self._key = os.environ.get("INSTALLATION_KEY")
        self._census = Census(self._views)
        self.suppressions = suppressions.Routes(options.spool, self._key, self._peers)

    def run(self) -> None:
        """Start the workers; start those that die again; return when all have drained after SIGTERM."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        for number in range(len(self._sockets)):
            self._start(number)
        if self._options.pool == "bulk" and self._key:  # after the workers, which are forked
            work = (self._options.spool, self._key, self._peers, self._ending)
            threading.Thread(target=suppressions.share, args=work, daemon=True).start()
        while self._workers:
            self._listen()
            self._reap()
        self._ending.set()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for sockets in self._sockets:
            for _, bound in sockets:
                bound.close()  # or clients would go on knocking where nobody opens
        for each in self._workers.values():
            os.kill(each.pid, signal.SIGTERM)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                for other in self._sockets[:number] + self._sockets[number + 1 :]:
                    for _, bound in other:
                        bound.close()  # or it would stay open until the last worker ends
                for name in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(name, signal.SIG_DFL)
                worker.run(number, self._options, self._sockets[number], self._clients, theirs)
                status = 0
            except SystemExit:
                pass
            except BaseException as error:
                log(f"worker {number} failed: {error!r}")
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        self._workers[number] = _Worker(pid, ours)

    def _listen(self) -> None:
        by_socket = {each.report: each for each in self._workers.values()}
        readable, _, _ = select.select(list(by_socket), [], [], 0.2)
        for ready in readable:
            each = by_socket[ready]
            try:
                each.buffer += ready.recv(1 << 20)
            except OSError:
                continue
            *lines, each.buffer = each.buffer.split(b"\n")
            if lines:
                each.state, each.heard = json.loads(lines[-1]), time.monotonic()

    def _reap(self) -> None:
        for number, each in list(self._workers.items()):
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if not pid:
                continue
            each.report.close()
            del self._workers[number]
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
            self._clients.clear(number)
            if not self._stopping:
                log(f"worker {number} ended (status {status}); another one is started")
                time.sleep(RESTART_SECONDS)
                self._start(number)

    # --- the admin port

    def routes(self) -> Mapping[str, Any]:
        """What the admin port answers."""
        return {
            "GET /metrics": lambda _: self._metrics(),
            "GET /livez": lambda _: self._health(live=True),
            "GET /readyz": lambda _: self._health(live=False),
            "GET /directory": lambda _: self._directory(),
        }

    def queue_routes(self) -> Mapping[str, Any]:
        """What the port of those answers who may know of mail."""
        bulk = self._options.pool == "bulk"
        return {
            "GET /explain": self._explain,
            "GET /queue": lambda r: Response.json([m for view in self._views() for m in view.queue(r.query)]),
            "POST /queue/retry": lambda r: self._change(QueueView.retry, r.query),
            "POST /queue/hold": lambda r: self._change(QueueView.hold, r.query),
            "POST /queue/release": lambda r: self._change(QueueView.release, r.query),
            "POST /queue/divert": self._divert,
            "DELETE /queue": lambda r: self._change(QueueView.delete, r.query),
            "GET /events": self._events,
            "GET /tls-reports": self._tls_reports,
            f"POST {parcels.PATH}": self._adopt,
            **({**self.suppressions.all(), f"POST {returns.PATH}": self._returned} if bulk else {}),
        }

    def _views(self) -> list[QueueView]:
        folders = (path for path in self._options.spool.iterdir() if (path / "queue.db").exists())
        return [QueueView(folder) for folder in sorted(folders)]

    def _change(
        self, change: Callable[[QueueView, Mapping[str, str]], int], which: Mapping[str, str]
    ) -> Response:
        try:
            count = sum(change(view, which) for view in self._views())
        except ValueError as error:
            return Response.refused(str(error))
        return Response.json({"recipients": count})

    def _events(self, request: Request) -> Response:
        """Events behind those that somebody has: `after` is worker:number,… as the answer's `next` says."""
        try:
            known = dict(pair.split(":") for pair in request.query.get("after", "").split(",") if pair)
            limit = min(int(request.query.get("limit", "1000")), 10_000)
            found = {v.name: v.events(int(known.get(v.name, "0")), limit) for v in self._views()}
        except ValueError:
            return Response.refused("say ?after=worker:number,… as an answer gave it, and ?limit=")
        known |= {name: str(events[-1]["number"]) for name, events in found.items() if events}
        after = ",".join(f"{name}:{number}" for name, number in sorted(known.items()))
        return Response.json({"events": [e for events in found.values() for e in events], "next": after})

    def _returned(self, request: Request) -> Response:
        """A bounce or a complaint that reached an smtp pod."""
        views = self._views()
        if not request.bears(self._key) or not views:
            return Response.text("this takes the installation's own key, and a spool", 403)
        try:
            found = Returned(**json.loads(request.body))
        except (TypeError, ValueError) as error:
            return Response.text(f"not understood: {error!r}", 400)
        self.suppressions.note(found)
        now = time.time()
        event = Event(
            now, MessageId(""), f"@{found.domain}", found.recipient, "", found.kind, found.class_, found.reply
        )
        views[0].add_event(event)
        return Response.json({"noted": True})

    def _tls_reports(self, request: Request) -> Response:
        """Reports of RFC 8460 on a day, of this pod: ?day=YYYY-MM-DD, yesterday if none is said."""
        yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
        self._reader.refresh()
        host = self._reader.server.hostname if self._reader.server else ""
        reports = TlsReports(self._options.spool).of_day(request.query.get("day", yesterday), host)
        return Response.json(reports)

    def _divert(self, request: Request) -> Response:
        which = dict(request.query)
        to = which.pop("to", "").lower()
        local, _, domain = to.rpartition("@")
        if not (local and domain) or not to.isprintable() or " " in to:
            return Response.refused("say where to: ?to=local@domain")
        return self._change(lambda view, those: view.divert(those, to), which)

    def _adopt(self, request: Request) -> Response:
        if self._stopping or not (views := self._views()):
            return Response.refused("stopping, or without a spool yet", 503)
        return transfer.adopt(request, self._key, views[0])

    def hand_over(self) -> None:
        """After run(): the spools are nobody's now."""
        peers = self._peers()
        if self._key and peers:
            transfer.hand_over(self._views(), peers, self._key, HANDOVER_SECONDS, log)

    def _peers(self) -> list[str]:
        """The other pods of this kind."""
        self._reader.refresh()
        server, ourselves = self._reader.server, os.environ.get("POD_NAME", "") + "."
        everybody = server.peers if server else ()
        if self._options.pool == "bulk":
            everybody = server.bulk.peers if server and server.bulk else ()
        return [peer for peer in everybody if not peer.startswith(ourselves)]

    def _metrics(self) -> Response:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        depths = [view.depth() for view in self._views()]
        oldest = min((o for _, o in depths if o), default=None)
        disk = os.statvfs(self._options.spool)
        problems = {name for w in list(self._workers.values()) for name in w.state.get("problems", {})}
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
            EXPIRY_NAME: (EXPIRY_HELP, expiry(self._options.tls / CERTIFICATE)),
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
        states = [each.state.get("connections", {}) for each in list(self._workers.values())]
        for destination, count in sum(map(Counter, states), Counter[str]()).items():
            family.add_metric([destination], count)
        return family

    def _health(self, live: bool) -> Response:
        workers = list(self._workers.values())
        hung = [w.pid for w in workers if time.monotonic() - w.heard > SILENCE_SECONDS]
        if hung:
            return Response.text(f"workers {hung} say nothing", 503)
        if not live and (self._stopping or not all(w.state.get("ready") for w in workers)):
            return Response.text("no directory yet, or stopping", 503)
        return Response.text("ok")

    def _directory(self) -> Response:
        """What all workers have loaded."""
        states = [w.state for w in self._workers.values()]
        loaded = [s.get("hashes", {}).items() for s in states]
        common = dict(set.intersection(*map(set, loaded))) if loaded else {}
        problems = {file: text for s in states for file, text in s.get("problems", {}).items()}
        return Response.json({"hashes": common, "problems": problems})

    def _explain(self, request: Request) -> Response:
        self._reader.refresh()
        try:
            return Response.json(asyncio.run(explain(self._reader, self._dns, self._key, request.query)))
        except ValueError as error:
            return Response.refused(str(error))


def _click(program: Program, address: str) -> AdminServer | None:
    """The port at which recipients leave mailings, where it is switched on."""
    port = os.environ.get("PORT_UNSUBSCRIBE")
    routes = {
        "GET /unsubscribe": program.suppressions.ask_first,
        "POST /unsubscribe": program.suppressions.unsubscribe,
    }
    return AdminServer(address, port, routes) if port else None


def main() -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mailpods.programs.smtp", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="folder of the directory's files")
    parser.add_argument("--buckets", type=int, required=True, help="how many bucket files it has")
    parser.add_argument("--spool", type=Path, required=True, help="folder for mail that waits")
    parser.add_argument("--auth-socket", required=True, help="Dovecot's auth socket")
    parser.add_argument("--tls", type=Path, required=True, help="folder with tls.crt and tls.key")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--pool", choices=("smtp", "bulk"), default="smtp", help="whose pods these are")
    parser.add_argument("--user", help="whom to become after binding the ports, when started as root")
    given = parser.parse_args()
    # The usual soft limit, 1,024 files, is a few hundred clients: all that the system allows is taken.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    address = os.environ.get("BIND", "0.0.0.0")
    try:
        listeners = ports(os.environ)
        sockets = [
            [bind(at, each, port) for at in address.split(",") for each, port in listeners.items()]
            for _ in range(given.workers)
        ]
        folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        if given.user:
            shutil.chown(folder, given.user)
        program = Program(
            worker.Options(
                given.directory,
                given.buckets,
                given.spool,
                given.auth_socket,
                given.tls,
                given.workers,
                given.pool,
            ),
            sockets,
        )
        bounds = {f"POST {parcels.PATH}": parcels.MAX_BODY}
        admin = AdminServer(address, os.environ.get("PORT_ADMIN", "9100"), program.routes())
        queue = AdminServer(address, os.environ.get("PORT_QUEUE", "9102"), program.queue_routes(), bounds)
        click = _click(program, address)
        become(given.user)
    except (OSError, ValueError, KeyError) as error:
        print(f"smtp: {error}", file=sys.stderr)
        return 1
    admin.start()
    queue.start()
    if click:
        click.start()
    try:
        program.run()
        program.hand_over()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
