"""What is said of a message that is passed on to another server: its signatures are verified, and sealed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from mailpods.directory.records import DkimKey, DomainName
from mailpods.message import arc

VERIFY_SECONDS = 10.0  # for all signatures of a message; beyond, it is not sealed
LONGEST_KEY = 1200  # characters of a key's record; with longer ones a stranger could keep us at sums
_ANSWER_SECONDS = 5.0
# Apart from the pool that everything else waits for: what strangers sign takes as long as their DNS does.
_verifying = ThreadPoolExecutor(2, thread_name_prefix="arc")
Texts = Callable[[str], Awaitable[list[str]]]  # the TXT records of a name


async def seal(
    header: bytes,
    body: Sequence[bytes],
    host: str,
    domain: DomainName,
    key: DkimKey,
    texts: Texts,
    now: float,
) -> bytes:
    """The ARC set of `domain` for a message. Raises ValueError, TimeoutError or NoAnswer where none can be
    made."""
    loop = asyncio.get_running_loop()
    end = time.monotonic() + VERIFY_SECONDS

    def answer(asked: bytes) -> bytes | None:
        """In a thread: dkimpy waits for each answer."""
        left = min(_ANSWER_SECONDS, end - time.monotonic())
        if left <= 0:
            raise TimeoutError("DNS takes too long")

        async def ask() -> list[str]:
            return await texts(asked.decode("ascii", "replace").removesuffix("."))

        found = asyncio.run_coroutine_threadsafe(ask(), loop).result(left)
        return found[0].encode() if found and len(found[0]) <= LONGEST_KEY else None

    whole = b"".join([header, b"\r\n", *body])
    async with asyncio.timeout(VERIFY_SECONDS):
        found = await loop.run_in_executor(_verifying, arc.findings, whole, answer)
    return arc.seal(header, body, host, domain, key, found, now)
