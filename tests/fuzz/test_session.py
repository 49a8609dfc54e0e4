"""Hostile dialogues, made of parts of the grammar: no input ends a session silently, hangs it, or is a fault.

`FUZZ_SECONDS` says for how long, `FUZZ_SEED` where to begin. A dialogue that fails is told with its seed; it
belongs into tests/unit/reception/dialogues.
"""

import asyncio
import os
import random
import time
from pathlib import Path

from mailpods.reception import metrics
from tests.support.dialogues import Player, reception, text

DIALOGUES = Path(__file__).parents[1] / "unit" / "reception" / "dialogues"
ATOMS = [
    "a",
    "info",
    "a.b",
    "",
    ".",
    "\u00fc",
    "\u0665",
    "\x00",
    "\xff",
    "(",
    '"',
    "\\",
    "$(id)",
    "postmaster",
    "[",
    "]",
]
DOMAINS = [
    "a.test",
    "a.test.",
    "stra\u00dfe.test",
    "xn--",
    "[192.0.2.1]",
    "[IPv6:::1]",
    "b" * 70,
    "..",
    "-",
    "\u2488com",
]
VERBS = [
    "HELO",
    "EHLO",
    "MAIL",
    "RCPT",
    "DATA",
    "BDAT",
    "RSET",
    "NOOP",
    "HELP",
    "VRFY",
    "AUTH",
    "STARTTLS",
    "QUIT",
    "X",
]
LINES = [
    "From: info@a.test",
    "From : x",
    "\tmore",
    " ",
    "",
    ".",
    "..",
    "no field",
    "Bcc: x",
    "Sender: a@b",
    "From a b",
]
ENDS = ["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n.\r\n", "\n.\r\n", "\0"]


# What a session may end with: a goodbye, or why it went on no more.
LAST = (b"421", b"221", b"501", b"554", b"552")


def path(pick: random.Random) -> str:
    """A path, or something like one."""
    local = pick.choice(["", '"']).join(pick.choices(ATOMS, k=pick.randint(0, 3)))
    route = pick.choice(["", "", "@x.test:", "@x.test,@y.test:", "@:"])
    found = f"<{route}{local}@{pick.choice(DOMAINS)}>"
    return pick.choice(
        [found, found, found[:-1], found * 2, "<>", "<" * pick.randint(1, 300), "<postmaster>"]
    )


def argument(verb: str, pick: random.Random) -> str:
    """Behind a verb."""
    parameters = pick.choice(
        ["", "", " SIZE=1", " SMTPUTF8", " BODY=8BITMIME", " SIZE=", " X=\x7f", " SIZE=" + "9" * 30]
    )
    if verb == "MAIL":
        return f"FROM:{path(pick)}{parameters}"
    if verb == "RCPT":
        return f"TO:{path(pick)}{parameters}"
    if verb == "BDAT":
        return pick.choice(["5", "0", "5 LAST", "0 LAST", "-1", "\u0665", "70000", "99999999999999999999"])
    if verb == "AUTH":
        return pick.choice(
            ["PLAIN", "LOGIN", "PLAIN \xff", "PLAIN AGEAYg==", "LOGIN =", "LOGIN YQ==", "X", ""]
        )
    return pick.choice(["", "", "c.test", "\xff", "x" * 600, "a b"])


def octets(pick: random.Random) -> bytes:
    """The next thing that a client sends."""
    if pick.random() < 0.3:
        lines = "".join(pick.choice(LINES) + pick.choice(ENDS) for _ in range(pick.randint(1, 8)))
        return lines.encode("utf-8")
    verb = pick.choice(VERBS)
    line = f"{verb} {argument(verb, pick)}{pick.choice(ENDS)}"
    return line.encode("latin-1", "ignore") if pick.random() < 0.3 else line.encode()


def known(pick: random.Random) -> bytes:
    """The beginning of a dialogue that somebody wrote, with an octet of it changed."""
    lines = pick.choice(sorted(DIALOGUES.glob("*.txt"))).read_text().splitlines()
    sent = b"".join(text(line[3:]) + b"\r\n" for line in lines if line[:2] in ("C:", "D:", "c:"))
    at = pick.randrange(len(sent))
    return sent[:at] + bytes([pick.randrange(256)]) + sent[at + 1 : pick.randint(at + 1, len(sent))]


async def dialogue(seed: int) -> None:
    """One session. Afterwards it answers, or has said why it closed."""
    pick = random.Random(seed)
    state = reception()
    player = Player(state)
    await player.connect(pick.choice(["smtp", "submission", "submissions"]))
    said = b""
    begun = [b"EHLO c.test\r\n", b"MAIL FROM:<x@far.test>\r\n", b"RCPT TO:<info@a.test>\r\n", b"DATA\r\n"]
    parts = [*begun[: pick.randint(0, 4)], *(pick.choice((octets, octets, known))(pick) for _ in range(30))]
    for part in parts:
        for piece in (part,) if pick.random() < 0.7 else (part[:3], part[3:]):
            if not player.transport.closed:
                player.send(piece)
        async with asyncio.timeout(5):
            while player.session.suspended and not player.transport.closed:
                await asyncio.sleep(0)
        said, player.transport.written = said + player.transport.written, b""
    if not player.transport.closed:
        player.session.look_at_the_clock(state.loop.time() + 10_000)
        said += player.transport.written
    assert player.transport.closed and said.splitlines()[-1][:3] in LAST, said
    player.session.connection_lost(None)
    assert not (len(state.sessions) or state.budgets.strangers.held or state.budgets.senders.held)


def test_no_input_ends_a_session_silently_or_is_a_fault() -> None:
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    until, faults = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "5")), metrics.FAULTS._value.get()
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            asyncio.run(dialogue(seed))
            assert metrics.FAULTS._value.get() == faults, "a fault: see the log"
            assert time.monotonic() - began < 3, "too slow"
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={seed}")
            raise
        seed += 1
