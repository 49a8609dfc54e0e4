"""The sessions of one worker: how many there may be, whose time is up, and how they end with the program."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from mailpods.smtp import metrics


class OpenSession(Protocol):
    """What is asked of a session here."""

    active: float

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the connection ended now."""

    @property
    def is_idle_stranger(self) -> bool:
        """Idle, and nobody who logged in."""

    def turn_away(self) -> None:
        """Make room for another client."""

    def say_goodbye(self) -> None:
        """The program stops."""

    def look_at_the_clock(self, now: float) -> None:
        """Close if the client takes too long."""


class OpenSessions:
    """At most `most` at a time. `fault`: told of what failed in looking after one of them."""

    def __init__(self, most: int, fault: Callable[[Exception], object]) -> None:
        self.most = most
        self._fault = fault
        self._sessions: dict[OpenSession, None] = {}  # in the order of their arrival

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: OpenSession) -> bool:
        """Take a session in. When there are too many, the stranger who has been silent longest has to go;
        returns False if nobody could be sent away."""
        if len(self._sessions) >= self.most:
            silent = [each for each in self._sessions if each.is_idle_stranger]
            if not silent:
                return False
            min(silent, key=lambda each: each.active).turn_away()
        self._sessions[session] = None
        return True

    def remove(self, session: OpenSession) -> None:
        """The session is over."""
        self._sessions.pop(session, None)

    async def watch(self) -> None:
        """Once a second, look whose time is up. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            metrics.OPEN.set(len(self._sessions))
            now = loop.time()
            for session in list(self._sessions):
                try:
                    session.look_at_the_clock(now)
                except Exception as error:  # that session's alone
                    self._fault(error)

    async def drain(self, seconds: float) -> None:
        """Let transactions finish, for a while; then close what is left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._sessions and loop.time() < end:
            for session in list(self._sessions):
                if session.is_idle:
                    session.say_goodbye()
            await asyncio.sleep(0.02)
        for session in list(self._sessions):
            session.say_goodbye()
