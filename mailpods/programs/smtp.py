"""The smtp program: binds the ports, gives up root, and keeps one worker process for each core alive."""

import argparse
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

# The workers' counters lie in files that this process adds up. prometheus_client looks here when imported.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="mailpods-smtp-"))

from prometheus_client import multiprocess

from mailpods.admin.log import logger
from mailpods.admin.privileges import become
from mailpods.admin.server import AdminServer
from mailpods.bulk import suppressions
from mailpods.directory.reader import DirectoryReader
from mailpods.programs import worker
from mailpods.programs.pod_routes import Pod
from mailpods.programs.queue_routes import Queue
from mailpods.rules.connection_limits import ConnectionLimits
from mailpods.smtp.listeners import Bound, bind, ports
from mailpods.spool import transfer
from mailpods.supervision.workers import Workers

HANDOVER_SECONDS = 80.0  # of the two minutes that a pod has to end
log = logger("smtp")


class Program:
    """The parent process."""

    def __init__(self, options: worker.Options, sockets: list[list[Bound]]) -> None:
        self._options = options
        self._sockets = sockets
        self._clients = ConnectionLimits(len(sockets))
        self._workers = Workers(len(sockets), self._work, self._gone, log)
        self._ending = threading.Event()
        bulk = options.pool == "bulk"
        reader = DirectoryReader(options.directory, options.buckets)
        self.queue = Queue(options.spool, reader, bulk, options.key, lambda: self._workers.stopping)
        self.pod = Pod(self._workers, self.queue.views, options.spool, options.tls)

    def run(self) -> None:
        """Run the workers until SIGTERM; return when all have drained, and what they left is handed over."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stop())
        self._workers.start()
        if self._options.pool == "bulk" and self._options.key:  # after the workers, which are forked
            work = (self._options.spool, self._options.key, self.queue.peers, self._ending)
            threading.Thread(target=suppressions.share, args=work, daemon=True).start()
        self._workers.run()
        self._ending.set()
        self.queue.hand_over(HANDOVER_SECONDS, log)

    def _stop(self) -> None:
        for sockets in self._sockets:
            for _, bound in sockets:
                bound.close()  # or clients would go on knocking where nobody opens
        self._workers.stop()

    def _work(self, number: int, report: socket.socket) -> None:
        for other in self._sockets[:number] + self._sockets[number + 1 :]:
            for _, bound in other:
                bound.close()  # or it would stay open until the last worker ends
        worker.run(number, self._options, self._sockets[number], self._clients, report)

    def _gone(self, number: int, pid: int) -> None:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        self._clients.clear(number)


def _click(program: Program, address: str) -> AdminServer | None:
    """The port at which recipients leave mailings, where it is switched on."""
    port, routes = os.environ.get("PORT_UNSUBSCRIBE"), program.queue.suppressions
    pages = {"GET /unsubscribe": routes.ask_first, "POST /unsubscribe": routes.unsubscribe}
    return AdminServer(address, port, pages) if port else None


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
                os.environ.get("INSTALLATION_KEY") or None,
            ),
            sockets,
        )
        bounds = {f"POST {transfer.PATH}": transfer.MAX_BODY}
        servers = [
            AdminServer(address, os.environ.get("PORT_ADMIN", "9100"), program.pod.routes()),
            AdminServer(address, os.environ.get("PORT_QUEUE", "9102"), program.queue.routes(), bounds),
        ]
        if click := _click(program, address):
            servers.append(click)
        become(given.user)
    except (OSError, ValueError, KeyError) as error:
        print(f"smtp: {error}", file=sys.stderr)
        return 1
    for each in servers:
        each.start()
    try:
        program.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
