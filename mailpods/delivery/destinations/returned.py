"""The bulk pods, which are told what came back of mailings.

It is a delivery like any other: where no bulk pod answers, it is tried again.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from mailpods.admin import peers
from mailpods.bulk import returned
from mailpods.delivery.client.connection import Connection, Following, Mail, Target
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.destinations.base import Destination, Network
from mailpods.delivery.outcomes import response_classes
from mailpods.message.verp import Verp

_ANSWER_SECONDS = 10.0
_MOST_BYTES = 256 << 10  # that are looked at: reports are short, and anybody may send something else


class _Desk(Connection):
    """Takes messages as a mail server would, reads them, and tells the bulk pods."""

    def __init__(self, pods: Callable[[], Sequence[str]], key: str) -> None:
        super().__init__(Target("bulk", 0, ""))
        self._pods, self._key, self._verp = pods, key, Verp(key)

    async def deliver(self, mail: Mail, following: Following = lambda: None) -> list[Reply]:
        """A reply for each target."""
        return [await asyncio.to_thread(self._read, target, mail.body) for target in mail.recipients]

    def _read(self, target: str, text: bytes) -> Reply:
        text = text[:_MOST_BYTES]
        try:
            if target.startswith(returned.BOUNCE):
                domain, recipient = target.removeprefix(returned.BOUNCE).split(" ", 1)
                found = returned.bounce(text, domain, recipient, response_classes.of_text)
            else:
                found = returned.complaint(text, self._verp, self._key)
        except Exception as error:  # what people write into mail
            return Reply(250, f"not readable: {error!r}")
        if found is None:
            return Reply(250, "nothing follows from it")
        for pod in self._pods():
            try:
                data = json.dumps(asdict(found)).encode()
                peers.ask(pod, "POST", returned.PATH, self._key, data, _ANSWER_SECONDS)
            except peers.Failures:
                continue
            return Reply(250, f"{found.kind} {found.recipient} class={found.class_}")
        return Reply(451, "4.4.1 no bulk pod answers")

    async def quit(self) -> None:
        """There is nobody to say goodbye to."""

    def abort(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class ReturnedMail(Destination):
    """To the bulk pods."""

    label: ClassVar[str] = "returns"
    connections: ClassVar[int] = 2

    @property
    def name(self) -> str:
        return "returns"

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        def pods() -> Sequence[str]:
            server = network.reader.server
            return server.bulk.peers if server and server.bulk else ()

        if not pods():
            raise LookupError("there is no bulk pool any more")
        return _Desk(pods, network.key)


RETURNED_MAIL = ReturnedMail()
