"""Durable accept beside Postfix: the same client, disk and durability, rounds interleaved.

Postfix is a private instance whose transport discards; ours delivers all that it takes to a sink over LMTP,
which costs it more. Both log, and both answer 250 only when the message is synced to disk.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_seconds, free_port, wait_for
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Bucket,
    Domain,
    DomainName,
    Server,
    Shard,
)
from mailpods.directory.shards import SERVER_FILE, encode, encode_server, file_name

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination =
relay_domains = a.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
default_transport = {transport}
relay_transport = {transport}
alias_maps =
alias_database =
message_size_limit = 50000000
default_process_limit = 150
smtpd_client_connection_count_limit = 0
smtpd_recipient_restrictions = permit_mynetworks, reject
maillog_file = /var/log/mailpods-bench.log
"""

_SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - 10 lmtp
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass
class Peer:
    """A running server: its port, and the root of its processes."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Load:
    """What smtp-source sends. `size` in bytes."""

    label: str
    sessions: int
    size: int
    messages: int
    reuse: bool
    goal: str


LOADS = (
    Load("4 KiB, new connections, 1 session", 1, 4096, 1000, False, "1.5"),
    Load("4 KiB, new connections, 20 sessions", 20, 4096, 3000, False, "2"),
    Load("4 KiB, new connections, 100 sessions", 100, 4096, 3000, False, "2.5"),
    Load("4 KiB, reused, 1 session", 1, 4096, 1000, True, "1.5"),
    Load("4 KiB, reused, 20 sessions", 20, 4096, 3000, True, "3.5"),
    Load("4 KiB, reused, 100 sessions", 100, 4096, 3000, True, "5"),
    Load("64 KiB, reused, 20 sessions", 20, 65536, 1000, True, "1.5"),
    Load("1 MiB, reused, 20 sessions", 20, 1 << 20, 100, True, "1.1"),
)


def start_postfix(folder: Path, transport: str = "discard:", more: str = "") -> Peer:
    """A private instance in `folder`; needs root. `more`: lines of main.cf. Raises CalledProcessError."""
    port, config = free_port(), folder / "config"
    for name in ("config", "queue", "data"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    (config / "main.cf").write_text(_MAIN.format(folder=folder, transport=transport) + more)
    own = f"127.0.0.1:{port} inet n - n - - smtpd\n"
    (config / "master.cf").write_text(own + _SERVICES)
    subprocess.run(["postfix", "-c", str(config), "start"], check=True, capture_output=True)
    wait_for(port)
    return Peer("postfix", port, int((folder / "queue/pid/master.pid").read_text()))


def stop_postfix(folder: Path) -> None:
    """End the private instance."""
    subprocess.run(["postfix", "-c", str(folder / "config"), "abort"], capture_output=True, check=False)


def launch(
    folder: Path, server: Server, bucket: Bucket, *options: str
) -> tuple[Peer, subprocess.Popen[bytes]]:
    """The smtp program, on a directory written into `folder` and the spool there; it is still starting."""
    for name in ("directory", "spool", "tls"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "directory" / SERVER_FILE).write_bytes(encode_server(server))
    (folder / "directory" / file_name(0)).write_bytes(encode(bucket))
    port = free_port()
    env = {**os.environ, "BIND": "127.0.0.1", "PORT_SMTP": str(port), "PORT_ADMIN": str(free_port())}
    env["PORT_QUEUE"] = str(free_port())
    command = [sys.executable, "-m", "mailpods.programs.smtp"]
    command += ["--buckets", "1", "--auth-socket", "/nonexistent"]
    for name in ("directory", "spool", "tls"):
        command += [f"--{name}", str(folder / name)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, *options], env=env, stderr=log)
    return Peer("mailpods", port, process.pid), process


def start_ours(
    folder: Path, lmtp: int, users: Sequence[str] = ("info",)
) -> tuple[Peer, subprocess.Popen[bytes]]:
    """The smtp program with one domain; it delivers to the LMTP server there."""
    accounts = {Address(f"{user}@a.test"): AccountId(f"1/{user}") for user in users}
    server = Server(
        "bench.test",
        trusted=("127.0.0.0/8",),
        sender_must_match=True,
        shards=(Shard(f"127.0.0.1:{lmtp}", "127.0.0.1:1"),),
    )
    bucket = Bucket(
        {DomainName("a.test"): Domain(1)},
        {address: AddressEntry("bench", account) for address, account in accounts.items()},
        {account: Account(address, 0) for address, account in accounts.items()},
    )
    peer, process = launch(folder, server, bucket)
    wait_for(peer.port)
    return peer, process


def measure(peer: Peer, load: Load) -> tuple[float, float]:
    """(elapsed seconds, CPU seconds per 1,000 messages) of one round."""
    command = ["smtp-source", "-s", str(load.sessions), "-m", str(load.messages), "-l", str(load.size)]
    command += ["-f", "x@example.net", "-t", "info@a.test", *(["-d"] if load.reuse else [])]
    before, began = cpu_seconds(peer.pid), time.monotonic()
    subprocess.run([*command, f"127.0.0.1:{peer.port}"], check=True, capture_output=True)
    elapsed = time.monotonic() - began
    time.sleep(1.5)  # what follows the 250 counts, too
    return elapsed, (cpu_seconds(peer.pid) - before) * 1000 / load.messages


def run(folder: Path, rounds: int) -> list[str]:
    """The rows of the table."""
    rows = ["| accept | Postfix s | ours s | ratio | goal | CPU s/1,000: Postfix | ours | ratio |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    lmtp = free_port()
    sink = subprocess.Popen(["smtp-sink", "-L", "-u", "postfix", f"127.0.0.1:{lmtp}", "1000"])
    postfix = start_postfix(folder / "postfix")
    ours, process = start_ours(folder / "ours", lmtp)
    try:
        for load in LOADS:
            found: dict[str, list[tuple[float, float]]] = {"postfix": [], "mailpods": []}
            for number in range(rounds):
                peers = (postfix, ours) if number % 2 else (ours, postfix)
                for peer in peers:
                    found[peer.name].append(measure(peer, load))
            (their_s, their_cpu), (our_s, our_cpu) = (
                (statistics.median(e for e, _ in found[name]), statistics.median(c for _, c in found[name]))
                for name in ("postfix", "mailpods")
            )
            rows.append(
                f"| {load.label} | {their_s:.2f} | {our_s:.2f} | {their_s / our_s:.1f}x | ≥ {load.goal}x "
                f"| {their_cpu:.2f} | {our_cpu:.2f} | {our_cpu / their_cpu:.2f} |"
            )
            print(rows[-1], file=sys.stderr, flush=True)
    finally:
        stop_postfix(folder / "postfix")
        process.send_signal(signal.SIGTERM)
        sink.terminate()
        process.wait(60)
    return rows
