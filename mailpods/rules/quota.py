"""Asks a store shard at RCPT whether a mailbox is full: Postfix's policy protocol, as Dovecot's quota-status
speaks it.

Nobody's mail is refused because the store cannot be asked: no answer means not full, and delivery then finds
out for itself.
"""

import asyncio
from collections import defaultdict

from mailpods.directory.endpoints import connect, resolve
from mailpods.directory.records import AccountId

TIMEOUT = 2.0  # seconds for one question, the connection included
POOL = 4  # idle connections kept per shard


def question(account: AccountId, size: int) -> bytes:
    """A request of the policy protocol. `size` is what the client announced, in bytes, 0 if nothing."""
    return f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={account}\nsize={size}\n\n".encode()


def is_full(answer: bytes) -> bool:
    """Whether an answer's action is the permanent refusal 552 or 554."""
    action = answer.partition(b"action=")[2]
    return action.startswith((b"552", b"554"))


class QuotaStatus:
    """Connections to the quota-status services, by endpoint; each carries one question at a time."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = defaultdict(
            list
        )

    async def full(self, endpoint: str, account: AccountId, size: int) -> bool:
        """Whether the account's mailbox cannot take a message of this size. False if it cannot be said."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._ask(endpoint, question(account, size))
        except (OSError, ValueError, EOFError, TimeoutError):
            return False

    def close(self) -> None:
        """Close what is idle."""
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()

    async def _ask(self, endpoint: str, text: bytes) -> bool:
        idle = self._idle[endpoint]
        while True:
            reused = bool(idle)
            reader, writer = idle.pop() if idle else await connect(resolve(endpoint))
            try:
                writer.write(text)
                answer = await reader.readuntil(b"\n\n")
            except (OSError, EOFError):
                writer.close()
                if not reused:  # an idle connection may have been closed by the other side meanwhile
                    raise
            except BaseException:  # timed out: what comes later would answer the next question
                writer.close()
                raise
            else:
                if len(idle) < POOL:
                    idle.append((reader, writer))
                else:
                    writer.close()
                return is_full(answer)
