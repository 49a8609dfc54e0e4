"""Accept, sign by RSA-2048 and deliver, beside Postfix with OpenDKIM as its milter.

Both answer 250 when a message is synced to disk, and deliver to smtp-sink. The clock runs until the queue is
empty; CPU is of the whole server, OpenDKIM included.
"""

import datetime
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mail_operator.compiler.dkim import keys_in
from mail_operator.engine.secrets import make_dkim_keys

from bench.accept import launch, start_postfix, stop_postfix
from bench.outgoing import all_gone, queued, sink, until
from bench.processes import cpu_seconds, free_port, wait_for
from mailpods.directory.records import Bucket, DkimKey, Domain, DomainName, Server, Shard, Smarthost

WORKERS, SESSIONS = 2, 20
LOADS = (("4 KiB", 4096, 3000), ("100 KB", 100_000, 1000))  # label, bytes, messages
SELECTOR = "bench"

_OPENDKIM = """\
Mode s
Domain a.test
Selector {selector}
KeyFile {folder}/key.pem
Socket inet:{port}@127.0.0.1
Canonicalization relaxed/relaxed
InternalHosts 127.0.0.1
Background no
UserID opendkim
RequireSafeKeys false
PidFile {folder}/pid
"""


@dataclass
class Signer:
    """A server that signs and delivers: where it listens, its processes, and whether its queue is empty."""

    port: int
    pids: tuple[int, ...]
    empty: Callable[[], bool]

    @property
    def cpu(self) -> float:
        """Seconds that all of its processes have used."""
        return sum(map(cpu_seconds, self.pids))


def _key() -> tuple[DkimKey, bytes]:
    """A new RSA key: ours, and as PEM."""
    made = make_dkim_keys(datetime.datetime.now(datetime.UTC))
    (key,) = (key for key, _ in keys_in(made)[0] if key.algorithm == "rsa")
    return key, made[f"{key.selector}.key"]


@contextmanager
def _postfix(folder: Path, sink_port: int, pem: bytes) -> Iterator[Signer]:
    place, port = folder / "opendkim", free_port()
    place.mkdir(parents=True)
    (place / "key.pem").write_bytes(pem)
    for path in (place, place / "key.pem"):
        shutil.chown(path, "opendkim")
    (place / "conf").write_text(_OPENDKIM.format(selector=SELECTOR, folder=place, port=port))
    milter = subprocess.Popen(["opendkim", "-f", "-x", str(place / "conf")])
    until(partial(_listens, port), 10)
    more = f"smtpd_milters = inet:127.0.0.1:{port}\nmilter_default_action = tempfail\n"
    peer = start_postfix(folder / "postfix", f"smtp:[127.0.0.1]:{sink_port}", more)
    try:
        names = ("incoming", "active", "deferred")
        yield Signer(peer.port, (peer.pid, milter.pid), lambda: queued(folder / "postfix", *names) == 0)
    finally:
        stop_postfix(folder / "postfix")
        milter.terminate()
        milter.wait(10)


@contextmanager
def _ours(folder: Path, sink_port: int, key: DkimKey) -> Iterator[Signer]:
    server = Server(
        "bench.test",
        trusted=("127.0.0.0/8",),
        shards=(Shard("127.0.0.1:1", "127.0.0.1:1"),),
        smarthost=Smarthost("127.0.0.1", sink_port, "none"),
    )
    bucket = Bucket({DomainName("a.test"): Domain(1, dkim=(key,))})
    peer, process = launch(folder, server, bucket, "--workers", str(WORKERS))
    try:
        wait_for(peer.port)
        yield Signer(peer.port, (peer.pid,), lambda: all_gone(folder / "spool"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _send(to: Signer, count: int, size: int) -> None:
    command = ["smtp-source", "-d", "-s", str(SESSIONS), "-m", str(count), "-l", str(size)]
    command += ["-f", "x@a.test", "-t", "y@far.test", f"127.0.0.1:{to.port}"]
    subprocess.run(command, check=True, capture_output=True)


def _measure(to: Signer, count: int, size: int) -> tuple[float, float]:
    """Seconds and CPU seconds until all of them are delivered."""
    before, began = to.cpu, time.monotonic()
    _send(to, count, size)
    until(to.empty)
    return time.monotonic() - began, to.cpu - before


def _check(folder: Path, port: int, servers: dict[str, Signer]) -> None:
    """Each of them signs what it delivers."""
    for name, server in servers.items():
        place = folder / f"seen-{name}"
        place.mkdir()
        shutil.chown(place, "postfix")
        with sink("127.0.0.1", port, "-d", f"{place}/"):
            _send(server, 1, 1000)
            until(server.empty)
        (text,) = (file.read_bytes() for file in place.iterdir())
        assert b"DKIM-Signature:" in text and b"a=rsa-sha256" in text, name


def run(folder: Path, rounds: int) -> list[str]:
    """The rows of the table."""
    if shutil.which("opendkim") is None:
        return ["OpenDKIM is not installed: accept, sign and deliver was not measured."]
    port, (key, pem) = free_port(), _key()
    rows = [
        "| accept, sign, deliver | messages/s | CPU s/1,000 | messages per CPU second |",
        "|---|---|---|---|",
    ]
    with _postfix(folder / "theirs", port, pem) as theirs, _ours(folder / "ours", port, key) as ours:
        servers = {"Postfix + OpenDKIM": theirs, "Mailpods": ours}
        _check(folder, port, servers)
        with sink("127.0.0.1", port):
            for label, size, count in LOADS:
                found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
                for number in range(rounds):
                    for name in sorted(servers, reverse=bool(number % 2)):
                        found[name].append(_measure(servers[name], count, size))
                medians = {
                    name: [statistics.median(each) for each in zip(*runs, strict=True)]
                    for name, runs in found.items()
                }
                for name, (seconds, cpu) in medians.items():
                    rates = f"{count / seconds:.0f} | {cpu * 1000 / count:.2f} | {count / cpu:.0f}"
                    rows.append(f"| {label}: {name} | {rates} |")
                (their_s, their_cpu), (our_s, our_cpu) = medians.values()
                rows.append(
                    f"| {label}: ratio (goal ≥ 3x) | {their_s / our_s:.1f}x | | {their_cpu / our_cpu:.1f}x |"
                )
                print("\n".join(rows[-3:]), file=sys.stderr, flush=True)
    return rows
