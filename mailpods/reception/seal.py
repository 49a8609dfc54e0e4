"""What is said of a message that is passed on to another server: its signatures are verified, and sealed."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from mailpods.directory.records import DomainName
from mailpods.dns.resolver import NoAnswer
from mailpods.message import arc
from mailpods.message import header as headers
from mailpods.reception.state import Hub, log
from mailpods.smtp import metrics

VERIFY_SECONDS = 10.0  # for all signatures of a message; beyond, it is not sealed
LONGEST_KEY = 1200  # characters of a key's record; with longer ones a stranger could keep us at sums
_ANSWER_SECONDS = 5.0
# Apart from the pool that everything else waits for: what strangers sign takes as long as their DNS does.
_verifying = ThreadPoolExecutor(2, thread_name_prefix="arc")


async def seal(hub: Hub, address: str, pieces: list[bytes], now: float) -> bytes:
    """The ARC set for a message to an address of ours that leads elsewhere; b"" where none can be made."""
    name = DomainName(address.rpartition("@")[2].lower())
    domain = hub.reader.domain(name)
    owner = hub.reader.domain(domain.users_of) if domain and domain.users_of else domain
    key = next((key for key in owner.dkim if key.algorithm == "rsa"), None) if owner else None
    settings = hub.settings
    if key is None or settings is None:
        return b""
    loop = asyncio.get_running_loop()
    end = time.monotonic() + VERIFY_SECONDS

    def texts(asked: bytes) -> bytes | None:
        """In a thread: dkimpy waits for each answer."""
        left = min(_ANSWER_SECONDS, end - time.monotonic())
        if left <= 0:
            raise TimeoutError("DNS takes too long")
        question = hub.names.texts(asked.decode("ascii", "replace").removesuffix("."))
        found = asyncio.run_coroutine_threadsafe(question, loop).result(left)
        return found[0].encode() if found and len(found[0]) <= LONGEST_KEY else None

    try:
        async with asyncio.timeout(VERIFY_SECONDS):
            found = await loop.run_in_executor(_verifying, arc.findings, b"".join(pieces), texts)
        header = headers.header_of(pieces)
        host = settings.server.hostname
        made = arc.seal(header, headers.body_of(pieces), host, name, key, found, now)
    except (TimeoutError, NoAnswer, ValueError) as error:
        log(f"not sealed to=<{address}> {error!r}")
        return b""
    metrics.SEALED.inc(bool(made))
    return made
