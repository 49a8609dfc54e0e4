"""Where an installation of one machine listens: mail is delivered at any address, by no side door."""

import imaplib
import random
import re
import smtplib
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.helm import ROOT
from tests.support.installation import EmbeddedInstallation, domain, mailbox, message, server, wait

Make = Callable[[], EmbeddedInstallation]
Open = set[tuple[str, int]]  # (address, number)
SHARDS = 2
_STATES = {"tcp": "0A", "udp": "07"}  # LISTEN, and bound without a peer (proc(5), net/tcp_states.h)


def documented() -> dict[str, list[int]]:
    """Where -> numbers, as docs/one-machine.md says."""
    found: dict[str, list[int]] = {}
    for line in (ROOT / "docs" / "one-machine.md").read_text().splitlines():
        if row := re.fullmatch(r"\| ([\d, ]+) \| (.*) \| (.*) \|", line):
            where = "further shards" if "shards" in row[2] else row[3].split(",")[0]
            found.setdefault(where, []).extend(map(int, row[1].split(", ")))
    return found


def free_offset() -> int:
    """One with which no documented port is in use."""
    numbers = {number for each in documented().values() for number in each}

    def is_free(port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return probe.connect_ex(("127.0.0.1", port)) != 0

    tried = (random.randrange(11000, 22000) for _ in range(100))
    return next(each for each in tried if all(is_free(number + each) for number in numbers))


def processes(installation: EmbeddedInstallation) -> Iterator[Path]:
    """Of the runner and its programs, which begin sessions of their own."""
    assert installation.process
    recorded = (installation.data / "run" / "pids").read_text().split()[::2]
    ours = {str(installation.process.pid), *recorded}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            fields = (each / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if each.name in ours or fields[3] in ours:
            yield each


def opened(installation: EmbeddedInstallation) -> Open:
    """All sockets of the installation at which somebody can come in."""
    inodes: set[str] = set()
    for each in processes(installation):
        for descriptor in (each / "fd").glob("*"):
            try:
                inodes.add(descriptor.readlink().name.removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    found: Open = set()
    for kind, state in _STATES.items():
        for file in (kind, f"{kind}6"):
            for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == state and fields[9] in inodes:
                    address, _, port = fields[1].partition(":")
                    words = [bytes.fromhex(address[n : n + 8])[::-1] for n in range(0, len(address), 8)]
                    family = socket.AF_INET6 if file.endswith("6") else socket.AF_INET
                    found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


def started(installation: EmbeddedInstallation, *binds: str, **spec: object) -> int:
    """It runs, at these addresses. Returns its offset."""
    offset = free_offset()
    bound = [word for each in binds for word in ("--bind", each)]
    installation.options = [*bound, "--port-offset", str(offset)]
    installation.apply("server", server(**spec), domain("a.test", 7), mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info", seconds=60)
    return offset


def test_nothing_listens_but_what_the_docs_say(installations: Make) -> None:
    installation = installations()
    everything = {"bulk": {"replicas": 1}, "portal": {"replicas": 1}, "store": {"shards": SHARDS}}
    offset = started(installation, "0.0.0.0", **everything)
    said = documented()
    assert said.keys() == {"every `--bind`", "loopback", "further shards"}
    wanted = {("0.0.0.0", number) for number in said["every `--bind`"]}
    wanted |= {("127.0.0.1", number) for number in said["loopback"]}
    wanted |= {("127.0.0.1", 1000 * n + port) for n in range(1, SHARDS) for port in said["further shards"]}
    wanted |= {("127.0.0.1", 1000 * n + 2526) for n in range(1, SHARDS)}  # each shard's own
    wanted = {(address, port + offset) for address, port in wanted}
    with suppress(AssertionError):  # a question to DNS has a port for a moment, too
        wait(lambda: opened(installation) == wanted, 20)
    assert opened(installation) == wanted
    for file in ("run/sockets", "run/resolve.json", "run/status.json"):
        assert (installation.data / file).stat().st_mode & 0o077 == 0, file
    with smtplib.SMTP("127.0.0.1", offset + 25) as client:
        client.send_message(message("x@example.net", "info@a.test"))
    wait(lambda: count("127.0.0.1", offset, installation) == 1, 30)


def count(host: str, offset: int, installation: EmbeddedInstallation) -> int:
    """How many messages info has, read at this address."""
    with imaplib.IMAP4_SSL(host, offset + 993, ssl_context=installation.tls()) as client:
        client.login("7/info", "pw-info")
        return int(client.select("INBOX", readonly=True)[1][0] or 0)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.parametrize(
    "binds",
    [
        ("127.0.0.2",),
        ("127.0.0.2", "127.0.0.3"),
        pytest.param(("::1",), marks=pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6")),
    ],
)
def test_mail_is_taken_and_read_at_each_address(installations: Make, binds: tuple[str, ...]) -> None:
    installation = installations()
    offset = started(installation, *binds)
    for expected, host in enumerate(binds, 1):
        with smtplib.SMTP(host, offset + 25) as client:
            client.send_message(message("x@example.net", "info@a.test"))
        wait(lambda host=host, n=expected: count(host, offset, installation) == n, 30)  # type: ignore[misc]
    # What stays, that is: a question to DNS has such an address for a moment, too.
    wait(lambda: not any(address == "0.0.0.0" for address, _ in opened(installation)), 20)
