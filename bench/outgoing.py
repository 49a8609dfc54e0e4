"""Mail that leaves: a full queue to one sink beside Postfix, and what a destination or tenant costs others.

Queues are filled before the clock runs. Both servers deliver to smtp-sink, a program of Postfix's in C.
"""

import asyncio
import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from bench.accept import Peer, launch, start_postfix, stop_postfix
from bench.processes import cpu_seconds, free_port, memory_bytes, wait_for
from mailpods.directory.records import AccountId, Address, Bucket, DomainName, Server, Shard, Smarthost
from mailpods.spool.message import Envelope, Recipient
from mailpods.spool.spool import Spool

WORKERS = 2
MESSAGES, SIZE = 20_000, 4096
DESTINATIONS, EACH, HANGING, DEFERRING, ROUNDS = 1000, 30, 10, 10, 3
CROWD, FEW = 100_000, 10
MILLION = 1_000_000
SINK, HANGS, DEFERS = "127.0.9.100", "127.0.9.101", "127.0.9.102"
Message = tuple[str, str]  # recipient, account


def fill(folder: Path, messages: Iterator[Message], size: int, due: float | None = None) -> None:
    """Put messages into the spools of both workers, synced, in turn; they may go at `due` (epoch seconds)."""
    body = b"Subject: bench\r\n\r\n" + b"x" * 62 + b"\r\n"
    body += (b"0123456789" * 6 + b"\r\n") * max((size - len(body)) // 62, 0)

    async def run() -> None:
        spools = [Spool.open(folder / str(n)) for n in range(WORKERS)]
        now, waiting = time.time(), []
        for n, (to, account) in enumerate(messages):
            envelope = Envelope("x@a.test", (Recipient(Address(to)),), due or now, account=AccountId(account))
            waiting.append(spools[n % WORKERS].accept(envelope, body))
            if len(waiting) == 4000:
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)
        for spool in spools:
            spool.close()

    asyncio.run(run())


def waiting(folder: Path) -> int:
    """Recipients in the spools."""
    return sum(rows[0] for rows in _asked(folder, "SELECT count(*) FROM recipient"))


def all_gone(folder: Path, condition: str = "1") -> bool:
    """Whether none of these recipients is in the spools."""
    return not list(_asked(folder, f"SELECT 1 FROM recipient WHERE {condition} LIMIT 1"))


def _asked(folder: Path, query: str) -> Iterator[tuple[int]]:
    for n in range(WORKERS):
        with closing(sqlite3.connect(f"file:{folder / str(n) / 'queue.db'}?mode=ro", uri=True)) as database:
            yield from database.execute(query)


@contextmanager
def ours(folder: Path, server: Server, pool: str = "smtp") -> Iterator[Peer]:
    """The smtp program on a spool that is there already."""
    peer, process = launch(folder, server, Bucket(), "--workers", str(WORKERS), "--pool", pool)
    try:
        yield peer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def record(**fields: object) -> Server:
    """A server whose mailboxes nobody asks for."""
    return Server("bench.test", shards=(Shard("127.0.0.1:1", "127.0.0.1:1"),), **fields)  # type: ignore[arg-type]


@contextmanager
def sink(address: str, port: int, *options: str) -> Iterator[None]:
    """smtp-sink."""
    process = subprocess.Popen(["smtp-sink", "-u", "postfix", *options, f"{address}:{port}", "1000"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(10)


def until(done: Callable[[], bool], seconds: float = 300, every: float = 0.02) -> float:
    """Seconds until something is so."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)
    return time.monotonic() - began


def _drain_ours(folder: Path, port: int) -> tuple[float, float]:
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.time() + 15
    fill(folder / "spool", ((f"x{n}@far.test", "7/info") for n in range(MESSAGES)), SIZE, begin)
    with ours(folder, record(smarthost=Smarthost("127.0.0.1", port, "none"))) as peer:
        wait_for(peer.port)
        time.sleep(begin - time.time())
        before = cpu_seconds(peer.pid)
        seconds = until(lambda: all_gone(folder / "spool"))
        return seconds, cpu_seconds(peer.pid) - before


def _drain_postfix(folder: Path, port: int) -> tuple[float, float]:
    shutil.rmtree(folder, ignore_errors=True)
    peer = start_postfix(folder, f"smtp:[127.0.0.1]:{port}", "defer_transports = smtp\n")
    try:
        command = ["smtp-source", "-s", "20", "-m", str(MESSAGES), "-l", str(SIZE), "-d", "-f", "x@a.test"]
        to = f"127.0.0.1:{peer.port}"
        subprocess.run([*command, "-t", "x@far.test", to], check=True, capture_output=True)
        config = str(folder / "config")
        until(lambda: queued(folder, "incoming", "active") == 0)
        subprocess.run(["postconf", "-c", config, "-e", "defer_transports="], check=True)
        before, began = cpu_seconds(peer.pid), time.monotonic()
        subprocess.run(["postfix", "-c", config, "reload"], check=True, capture_output=True)
        subprocess.run(["postqueue", "-c", config, "-f"], check=True)
        until(lambda: queued(folder, "incoming", "active", "deferred") == 0, every=0.1)
        return time.monotonic() - began, cpu_seconds(peer.pid) - before
    finally:
        stop_postfix(folder)


def queued(folder: Path, *names: str) -> int:
    """Files in these queues of a Postfix."""
    return sum(len(files) for name in names for _, _, files in os.walk(folder / "queue" / name))


def drain(folder: Path, rounds: int) -> Iterator[str]:
    """A full queue to one sink."""
    yield "| queue → one sink, 4 KiB | messages/s | CPU s/1,000 |"
    yield "|---|---|---|"
    found: dict[str, list[tuple[float, float]]] = {"Postfix": [], "Mailpods": []}
    port = free_port()
    with sink("127.0.0.1", port):
        for _ in range(rounds):
            found["Postfix"].append(_drain_postfix(folder / "postfix", port))
            found["Mailpods"].append(_drain_ours(folder / "ours", port))
    medians = {
        name: [statistics.median(each) for each in zip(*runs, strict=True)] for name, runs in found.items()
    }
    for name, (seconds, cpu) in medians.items():
        yield f"| {name} | {MESSAGES / seconds:.0f} | {cpu * 1000 / MESSAGES:.2f} |"
    (their_s, their_cpu), (our_s, our_cpu) = medians["Postfix"], medians["Mailpods"]
    yield f"| ratio (goals: ≥ 6x, CPU ≤ 0.2) | {their_s / our_s:.1f}x | {our_cpu / their_cpu:.2f} |"


def destinations(folder: Path) -> Iterator[str]:
    """The same mail for 980 domains, without and with 20 others that hang or defer everything."""
    good = [f"d{n}.test" for n in range(DESTINATIONS - HANGING - DEFERRING)]
    bad = {f"h{n}.test": HANGS for n in range(HANGING)} | {f"t{n}.test": DEFERS for n in range(DEFERRING)}
    hops = {**dict.fromkeys(good, SINK), **bad}
    relayed: Mapping[DomainName, str] = {DomainName(domain): hop for domain, hop in hops.items()}
    times: dict[int, list[float]] = {len(good): [], len(hops): []}
    with sink(SINK, 25, "-m", "4000"), sink(DEFERS, 25, "-r", "rcpt"), _mute(HANGS, 25):
        for domains in (good, list(hops)) * ROUNDS:
            place = folder / str(len(domains))
            mail = [(f"x{n}@{domain}", "7/info") for n in range(EACH) for domain in domains]
            fill(place / "spool", iter(mail), SIZE)
            with ours(place, record(relayed=relayed)):
                gone = partial(all_gone, place / "spool", "address LIKE '%@d%'")
                times[len(domains)].append(until(gone))
            shutil.rmtree(place)
    without, with_them = (statistics.median(each) for each in times.values())
    yield f"| {DESTINATIONS} destinations, {EACH} messages each | seconds for the good {len(good)} |"
    yield "|---|---|"
    yield f"| the good ones alone | {without:.2f} |"
    yield f"| beside {HANGING} that hang and {DEFERRING} that defer everything | {with_them:.2f} |"
    yield f"| loss (goal < 10 %) | {(with_them / without - 1) * 100:.0f}% |"


@contextmanager
def _mute(address: str, port: int) -> Iterator[None]:
    """Takes connections, and never says a word."""
    with socket.socket() as listening:
        listening.bind((address, port))
        listening.listen(1024)
        yield


def tenants(folder: Path) -> Iterator[str]:
    """Ten messages of one tenant, given while another's are on their way to the same destination."""
    port = free_port()
    fill(folder / "spool", ((f"x{n}@far.test", "7/info") for n in range(CROWD)), 1024)
    server = record(smarthost=Smarthost("127.0.0.1", port, "none"), trusted=("127.0.0.0/8",))
    with sink("127.0.0.1", port), ours(folder, server) as peer:
        wait_for(peer.port)
        until(lambda: waiting(folder / "spool") < CROWD)
        began = time.monotonic()
        with smtplib.SMTP("127.0.0.1", peer.port) as client:
            for n in range(FEW):
                client.sendmail("anna@b.test", [f"few{n}@far.test"], b"Subject: few\r\n\r\nhello\r\n")
        until(lambda: all_gone(folder / "spool", "address LIKE 'few%'"))
        seconds = time.monotonic() - began
        left = waiting(folder / "spool")
    yield f"| {FEW} messages behind {CROWD:,} of another tenant to the same server | goal |"
    yield "|---|---|"
    yield f"| have left after {seconds:.2f} s, when {left:,} of the others still wait | ≤ 2 s |"


def isolation(folder: Path) -> Iterator[str]:
    """What a submission over the regular pods takes, beside a full bulk pool whose ways are blocked."""
    port = free_port()
    domains = [f"h{n}.test" for n in range(HANGING * 5)]
    relayed = {DomainName(domain): HANGS for domain in domains}
    mail = ((f"x{n}@{domains[n % len(domains)]}", "7/info") for n in range(MESSAGES))
    fill(folder / "bulk" / "spool", mail, SIZE)
    fill(folder / "regular" / "spool", iter(()), SIZE)
    regular = record(smarthost=Smarthost("127.0.0.1", port, "none"), trusted=("127.0.0.0/8",))
    found = []
    with sink("127.0.0.1", port), _mute(HANGS, 25), ours(folder / "regular", regular) as peer:
        wait_for(peer.port)
        found.append(_latencies(peer.port))
        with ours(folder / "bulk", record(relayed=relayed), "bulk") as bulk:
            wait_for(bulk.port)
            time.sleep(3)
            found.append(_latencies(peer.port))
    alone, beside = (statistics.quantiles(each, n=100)[98] * 1000 for each in found)
    yield "| one submission, over the regular pods | p99 |"
    yield "|---|---|"
    yield f"| while bulk is idle | {alone:.2f} ms |"
    yield f"| while {MESSAGES:,} mailings wait for {len(domains)} destinations that hang | {beside:.2f} ms |"
    yield f"| ratio (goal < 1.2x) | {beside / alone:.2f}x |"


def _latencies(port: int) -> list[float]:
    """Seconds for each of a thousand messages over one connection."""
    found = []
    with smtplib.SMTP("127.0.0.1", port) as client:
        for n in range(1100):
            began = time.monotonic()
            client.sendmail("x@a.test", [f"y{n}@far.test"], b"Subject: x\r\n\r\n" + b"x" * 60 + b"\r\n")
            found.append(time.monotonic() - began)
    return found[100:]


def million(folder: Path) -> Iterator[str]:
    """A very full queue: memory while nothing can go, and the first delivery after a start."""
    port = free_port()
    mail = ((f"x{n}@d{n % 1000}.test", f"{n % 50}/info") for n in range(MILLION))
    fill(folder / "spool", mail, 200)
    server = record(smarthost=Smarthost("127.0.0.1", port, "none"))
    with ours(folder, server) as peer:
        wait_for(peer.port)
        before, rss = 0, memory_bytes(peer.pid)
        while rss - before > 1 << 20:  # until all of it is read
            time.sleep(5)
            before, rss = rss, memory_bytes(peer.pid)
    with sink("127.0.0.1", port), ours(folder, server):
        seconds = until(lambda: "delivered id=" in (folder / "log").read_text(errors="replace"), every=0.05)
    yield f"| {MILLION:,} queued recipients | | goal |"
    yield "|---|---|---|"
    yield f"| memory (PSS of all processes) | {rss / 2**20:.0f} MiB | ≤ 500 MiB |"
    yield f"| start → first delivery | {seconds:.1f} s | ≤ 10 s |"


def run(folder: Path, rounds: int) -> list[str]:
    """The rows of all tables."""
    rows: list[str] = []
    for name, table in (
        ("drain", drain(folder / "drain", rounds)),
        ("destinations", destinations(folder / "destinations")),
        ("tenants", tenants(folder / "tenants")),
        ("isolation", isolation(folder / "isolation")),
        ("million", million(folder / "million")),
    ):
        (folder / name).mkdir()
        rows += [*table, ""]
        print("\n".join(rows[-5:]), file=sys.stderr, flush=True)
        shutil.rmtree(folder / name)
    return rows
