"""A mail server that does as a test wants: takes, defers, refuses, hangs or hangs up, in any command."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "TEXT", "BDAT", "RSET", "QUIT"]
HANG, HANG_UP = "hang", "hang up"  # instead of a reply


@dataclass
class Peer:
    """`says`: what is answered in a phase instead of the usual, `times` times."""

    port: int = 0
    says: dict[str, str] = field(default_factory=dict)
    times: int = 1 << 30
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    taken: list[tuple[str, list[str], bytes]] = field(default_factory=list)  # sender, recipients, text
    commands: Counter[str] = field(default_factory=Counter)
    open: int = 0
    most: int = 0  # connections at a time

    def recipients(self) -> list[str]:
        """Of all that it took, in that order."""
        return [address for _, recipients, _ in self.taken for address in recipients]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()

        async def answer(phase: str, usual: str) -> bool:
            """Whether the answer was positive."""
            self.commands[phase] += 1
            said = usual
            if phase in self.says and self.times > 0:
                said, self.times = self.says[phase], self.times - 1
            if said == HANG_UP:
                raise ConnectionResetError
            if said == HANG:
                await asyncio.sleep(3600)
            writer.write(f"{said}\r\n".encode())
            await writer.drain()
            return said[0] in "23"

        await answer("CONNECT", "220 peer.test")
        while line := (await reader.readuntil(b"\n")).decode().strip():
            verb = line.split()[0].upper()
            if verb in ("EHLO", "LHLO"):
                names = ("peer.test", *self.extensions)
                usual = "\r\n".join(f"250{' ' if n == names[-1] else '-'}{n}" for n in names)
                await answer("EHLO", usual)
            elif verb == "MAIL":
                sender, recipients = line.partition("<")[2].partition(">")[0], []
                await answer("MAIL", "250 2.1.0 Ok")
            elif verb == "RCPT":
                if await answer("RCPT", "250 2.1.5 Ok"):
                    recipients.append(line.partition("<")[2].partition(">")[0])
            elif verb == "DATA":
                if not recipients:
                    await answer("DATA", "554 5.5.1 no recipients")
                elif await answer("DATA", "354 go"):
                    text = await reader.readuntil(b"\r\n.\r\n")
                    if await answer("TEXT", "250 2.0.0 taken"):
                        self.taken.append((sender, recipients, text[:-3]))
            elif verb == "BDAT":
                text = await reader.readexactly(int(line.split()[1]))
                if await answer("BDAT", "250 2.0.0 taken" if recipients else "554 5.5.1 no recipients"):
                    self.taken.append((sender, recipients, text))
            elif verb == "QUIT":
                await answer("QUIT", "221 2.0.0 bye")
                return
            else:
                await answer(verb, "250 2.0.0 Ok")


@asynccontextmanager
async def peer(**behaviour: object) -> AsyncIterator[Peer]:
    """A running one; the fields of Peer say how it behaves."""
    made = Peer(**behaviour)  # type: ignore[arg-type]
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, limit=1 << 24)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
