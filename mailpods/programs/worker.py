"""One worker process: its listeners, its spool, its deliveries. It shares nothing with the others."""

import asyncio
import gc
import json
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from mailpods.admin.privileges import die_with_parent
from mailpods.bulk.suppression import Suppressions
from mailpods.delivery.destinations.sts import Policies
from mailpods.delivery.outcomes.tls_reports import FLUSH_SECONDS, TlsReports
from mailpods.delivery.queues.manager import QueueManager
from mailpods.directory.reader import DirectoryReader
from mailpods.dns.names import Names
from mailpods.dns.resolver import Resolvers
from mailpods.identity.dovecot import DovecotAuth
from mailpods.reception.session import Session
from mailpods.reception.state import ReceptionState, log
from mailpods.rules.connection_limits import ConnectionLimits
from mailpods.smtp.listeners import Acceptor, Bound
from mailpods.smtp.tls import Certificate
from mailpods.spool.spool import Spool
from mailpods.supervision.tasks import VitalTasks

POLL_SECONDS = 0.1  # between looks at each file of the directory, and at the certificate
LOOK_SECONDS = 0.02  # between looks whether the directory's folder changed
REPORT_SECONDS = 1.0  # between signs of life
MOST_DESTINATIONS = 50  # whose connections are told: those that have most
DELIVERY_DRAIN = 10.0  # seconds that deliveries under way get when the program stops
_COLLECT = (10_000, 20, 100)  # thresholds of the garbage collector


@dataclass(frozen=True)
class Options:
    """What all workers are told."""

    directory: Path
    buckets: int
    spool: Path
    auth_socket: str
    tls: Path
    workers: int
    pool: str  # smtp, or bulk
    key: str | None  # the installation's; None on a machine that has none


def run(
    number: int, options: Options, bound: list[Bound], clients: ConnectionLimits, report: socket.socket
) -> None:
    """The life of worker `number`; returns when it was told to stop (SIGTERM) and has drained."""
    die_with_parent()
    # What sessions and deliveries leave dies with its last reference. Looking for cycles as often as Python
    # does by itself, among all that waits in memory, took a twelfth of the time.
    gc.set_threshold(*_COLLECT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(number, options, bound, clients, report))


async def _run(
    number: int, options: Options, bound: list[Bound], clients: ConnectionLimits, report: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    clients.take_row(number)
    reader = DirectoryReader(options.directory, options.buckets)
    certificate = Certificate(options.tls, log, lambda: reader.server.certified if reader.server else None)
    reader.refresh()
    certificate.refresh()
    gc.freeze()  # the directory has no cycles, and is looked through no more
    try:
        spool = Spool.open(options.spool / str(number))
    except (OSError, sqlite3.Error) as error:
        log(f"spool {options.spool / str(number)} cannot be opened: {error}")
        await asyncio.sleep(2)  # the parent starts another one: not in a tight loop
        raise SystemExit(1) from error
    dns = Resolvers(reader)
    suppressions = Suppressions(options.spool) if options.pool == "bulk" else None
    auth = DovecotAuth(options.auth_socket, log)
    state = ReceptionState(
        reader,
        spool,
        auth,
        certificate,
        clients,
        Names(dns),
        suppressions=suppressions,
        key=options.key,
    )
    reports = TlsReports(options.spool)
    policies = Policies(options.spool, dns, failed=reports.no_policy)
    left = _left_behind(options.spool, options.workers) if number == 0 else []
    managers = [
        QueueManager(reader, each, dns, log, suppressions, policies, reports, options.key)
        for each in (spool, *left)
    ]
    tasks = VitalTasks(log)
    for manager in managers:
        manager.start(tasks.fail)
    acceptor = Acceptor(
        bound,
        lambda listener, ip, tls: Session(state, listener, ip, tls),
        certificate,
        state.timeouts.handshake,
    )
    tasks.start("the watch over sessions", state.sessions.watch())
    tasks.start("reading the directory", _poll(reader, certificate))
    tasks.start("reporting to the parent", _report(reader, managers, report))
    tasks.start("keeping TLS reports", _keep(reports))
    failing = loop.create_task(tasks.ended.wait())
    failing.add_done_callback(lambda _: stop.set())
    while reader.server is None and not stop.is_set():
        await asyncio.sleep(POLL_SECONDS)  # nothing can be said to a client before
    if not stop.is_set():
        await acceptor.start()
    await stop.wait()
    acceptor.stop()
    await state.drain()
    await asyncio.gather(*(manager.stop(DELIVERY_DRAIN) for manager in managers))
    tasks.cancel()
    with suppress(sqlite3.Error):
        await reports.flush()
    for opened in (spool, *left):
        await loop.run_in_executor(None, opened.close)
    if tasks.ended.is_set():
        raise SystemExit(1)  # the parent starts another one


def _left_behind(spool: Path, workers: int) -> list[Spool]:
    """Spools of an earlier run with more workers: emptied, not forgotten."""
    numbers = (int(path.name) for path in spool.iterdir() if path.name.isdecimal())
    return [Spool.open(spool / str(n)) for n in sorted(numbers) if n >= workers]


async def _poll(reader: DirectoryReader, certificate: Certificate) -> None:
    while True:
        end = time.monotonic() + POLL_SECONDS
        while time.monotonic() < end and not reader.stirred():
            await asyncio.sleep(LOOK_SECONDS)
        reader.refresh()
        certificate.refresh()


async def _keep(reports: TlsReports) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        try:
            await reports.flush()
        except sqlite3.Error as error:  # a full disk: mail matters more
            log(f"TLS reports not written: {error}")


async def _report(reader: DirectoryReader, managers: list[QueueManager], report: socket.socket) -> None:
    """Tell the parent what is loaded: at once when it changes, and every second as a sign of life."""
    report.setblocking(False)
    loop, last, told = asyncio.get_running_loop(), dict[str, Any](), 0.0
    while True:
        state = {"hashes": reader.hashes, "problems": reader.problems, "ready": reader.is_complete}
        if state != last or loop.time() - told >= REPORT_SECONDS:
            counts = sum((each.connections() for each in managers), Counter[str]())
            text = json.dumps({**state, "connections": dict(counts.most_common(MOST_DESTINATIONS))})
            try:
                await loop.sock_sendall(report, text.encode() + b"\n")
            except OSError:
                os._exit(1)  # the parent is gone
            last, told = state, loop.time()
        await asyncio.sleep(LOOK_SECONDS)
