"""The text of the message that a session is receiving: what of it is here, and whether it takes too long."""

from mailpods.reception.budgets import network_of
from mailpods.reception.replies import BUSY, TIMEOUT, TOO_SLOW
from mailpods.reception.state import ReceptionState
from mailpods.refusal import Refusal
from mailpods.rules import chains
from mailpods.rules.context import PolicyContext
from mailpods.smtp.content import Data, MessageContent
from mailpods.smtp.machine import ReadChunk


class IncomingText:
    """By DATA, or by one BDAT after another. `began` is a time of the loop's clock.

    Logins' line ends are mended: their programs are old, but they smuggle nothing. From the world a bare CR
    or LF is refused.
    """

    def __init__(self, state: ReceptionState, context: PolicyContext, began: float) -> None:
        limit = context.settings.server.max_message_bytes
        self.content = MessageContent(limit, mend=context.account is not None)
        self.chunk: ReadChunk | None = None  # that is being received; None for DATA
        self.data = Data(self.content)
        self._budget = state.budgets.of(context.may_relay)
        self._timeouts, self._context = state.timeouts, context
        self._began = began
        self._window = began, 0  # since when the rate is measured, and how much was there then

    @property
    def network(self) -> str:
        """Of the client."""
        return network_of(self._context.ip)

    @property
    def complete(self) -> bool:
        """Whether nothing more of it comes, once what is being received ends."""
        return self.chunk is None or self.chunk.last

    def count(self) -> None:
        """Note in the budget what is kept by now."""
        self._budget.note(self, self.content.kept)

    def give_up(self) -> None:
        """There is no room for it."""
        self.content.fail(BUSY)

    def release(self) -> None:
        """It is somebody else's now, or nobody's."""
        self._budget.release(self)

    def hopeless(self) -> Refusal | None:
        """Why it will be refused, however it goes on."""
        self._context.size = self.content.size
        return self.content.problem or chains.size(self._context)

    def ended_in_silence(self, now: float, active: float) -> bool:
        """Whether a login's old program ended the text by LF "." CRLF, and waits for the answer.

        In a stream that ends nothing, or text could be made that smuggles commands. But who sends text of
        others does not fall silent in its midst.
        """
        silent = now - active >= self._timeouts.silence
        return silent and self.chunk is None and self.data.end_by_silence()

    def late(self, now: float, active: float) -> Refusal | None:
        """What is to be said if the client takes too long. `active`: when something last came."""
        timeouts, limit = self._timeouts, self._context.settings.server.max_message_bytes
        refusal = self.hopeless()
        if refusal and now - active > timeouts.refused:
            return refusal
        if now - active > timeouts.data or now - self._began > timeouts.message(limit):
            return TIMEOUT
        since, size = self._window
        if now - since >= timeouts.rate_window:
            self._window = now, self.content.size
            if self.content.size - size < timeouts.rate * (now - since):
                return TOO_SLOW
        return None
