"""The text of the message that a session is receiving: what of it is here, and whether it takes too long."""

from mailpods.reception.replies import BUSY, TIMEOUT
from mailpods.reception.state import ReceptionState
from mailpods.refusal import Refusal
from mailpods.rules import chains
from mailpods.rules.context import PolicyContext
from mailpods.smtp.content import MessageContent
from mailpods.smtp.machine import ReadChunk


class IncomingText:
    """By DATA, or by one BDAT after another. `began` is a time of the loop's clock."""

    def __init__(self, state: ReceptionState, context: PolicyContext, began: float) -> None:
        self.content = MessageContent(context.settings.server.max_message_bytes)
        self.chunk: ReadChunk | None = None  # that is being received; None for DATA
        self._state, self._context, self._began = state, context, began
        self._counted = 0  # its bytes, as all of them are counted

    @property
    def complete(self) -> bool:
        """Whether nothing more of it comes, once what is being received ends."""
        return self.chunk is None or self.chunk.last

    def count(self) -> None:
        """Count the bytes that came; beyond what there is room for, they are thrown away."""
        state, content = self._state, self.content
        state.receiving += content.size - self._counted
        self._counted = content.size
        if state.receiving > 2 * state.max_receiving and not content.problem:
            content.fail(BUSY)

    def release(self) -> None:
        """It is somebody else's now, or nobody's."""
        self._state.receiving -= self._counted
        self._counted = 0

    def hopeless(self) -> Refusal | None:
        """Why it will be refused, however it goes on."""
        self._context.size = self.content.size
        return self.content.problem or chains.size(self._context)

    def late(self, now: float, active: float) -> Refusal | None:
        """What is to be said if the client takes too long. `active`: when something last came."""
        timeouts, limit = self._state.timeouts, self._context.settings.server.max_message_bytes
        refusal = self.hopeless()
        if refusal and now - active > timeouts.refused:
            return refusal
        late = now - active > timeouts.data or now - self._began > timeouts.message(limit)
        return TIMEOUT if late else None
