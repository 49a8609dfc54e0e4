"""What follows from the replies to a batch: results for recipients, and word to the sender of failures."""

import asyncio
import time
from collections.abc import Callable, Sequence

from mailpods.bulk.returned import HARD
from mailpods.bulk.suppression import Suppressions
from mailpods.delivery import metrics
from mailpods.delivery.batch import SUPPRESSED, DeliveryBatch
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.outcomes import dsn, response_classes
from mailpods.delivery.outcomes import retry as retries
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Address
from mailpods.spool.bodies import BodyMissing
from mailpods.spool.changes import Warned
from mailpods.spool.errors import SpoolError
from mailpods.spool.message import DeliveryResult, Envelope, Event, QueuedMessage, Recipient
from mailpods.spool.spool import Spool

WAITS = "4.4.1 the destination takes no mail now"

Log = Callable[[str], None]


class Outcomes:
    """Of one spool. `closed` is told of each batch once all about it is reported."""

    def __init__(
        self,
        spool: Spool,
        reader: DirectoryReader,
        suppressions: Suppressions | None,
        log: Log,
        spawn: Callable[["asyncio._CoroutineLike[None]"], None],
        closed: Callable[[DeliveryBatch], None],
    ) -> None:
        """`suppressions`: it is one of the bulk pool's."""
        self._spool, self._reader, self._suppressions = spool, reader, suppressions
        self._log, self._spawn, self._closed = log, spawn, closed

    def apply(self, batch: DeliveryBatch, expired: bool = False) -> None:
        """All replies are there. `expired`: what is not delivered now is given up.

        A fault of ours about this message puts off this message: nothing stays under way for ever.
        """
        try:
            self._apply(batch, expired)
        except Exception as error:
            self.park(batch, error)

    def park(self, batch: DeliveryBatch, error: Exception) -> None:
        """Put a message off behind a fault of ours about it, with its reason."""
        self._log(f"parked id={batch.id} destination={batch.destination.name} {error!r}")
        metrics.PARKED.inc(len(batch.targets))
        again = time.time() + retries.PARKED_SECONDS
        why = f"451 4.3.0 a fault of ours: {error!r}"
        self._close(batch, [DeliveryResult(batch.id, to, again, why) for to in batch.targets])

    def _apply(self, batch: DeliveryBatch, expired: bool) -> None:
        now = time.time()
        results: list[DeliveryResult] = []
        failures: list[dsn.Failure] = []
        held: list[dsn.Failure] = []
        for recipient in batch.recipients:
            later: list[str] = []
            for target in batch.targets[recipient.address]:
                reply = batch.replies[target]
                class_ = "" if reply.ok else response_classes.of(reply)
                self._record(batch.message, recipient, target, reply, class_, expired)
                if reply.ok:
                    metrics.SECONDS.observe(max(now - batch.message.envelope.received_at, 0.0))
                elif reply.permanent or expired:
                    metrics.FAILED.labels(class_).inc()
                    if SUPPRESSED not in reply.text:  # its sender wanted it so
                        failures.append(dsn.Failure(recipient, str(reply)))
                    self._suppress(batch.message, target, class_, reply)
                elif batch.reserved is not None:
                    later.append(target)
                else:
                    metrics.DEFERRED.labels(class_).inc()
                    if reply.urgent and not batch.message.warned:
                        held.append(dsn.Failure(recipient, str(reply)))
                    later.append(target)
            results.append(_result(batch, recipient, later, now))
        if failures or held:
            self._spawn(self._notify(batch, failures, held, results))
        else:
            self._close(batch, results)

    def _suppress(self, message: QueuedMessage, target: str, class_: str, reply: Reply) -> None:
        if self._suppressions is None or class_ not in HARD or "@" not in target or not reply.permanent:
            return
        try:
            self._suppressions.add(message.envelope.sender.rpartition("@")[2], target, f"bounce: {reply}")
        except Exception as error:  # a list that cannot be written must not keep the message
            self._log(f"not suppressed to=<{target}> {error!r}")

    def _record(
        self,
        message: QueuedMessage,
        recipient: Recipient,
        target: str,
        reply: Reply,
        class_: str,
        expired: bool,
    ) -> None:
        word = "delivered" if reply.ok else "failed" if reply.permanent or expired else "deferred"
        if self._suppressions is not None and "@" in target:
            envelope, at = message.envelope, time.time()
            self._spool.report(
                Event(at, message.id, envelope.sender, target, envelope.campaign, word, class_, str(reply))
            )
        kind = f" class={class_}" if class_ else ""
        self._log(
            f"{word} id={message.id} to=<{recipient.address}> target={target}{kind} reply={str(reply)!r}"
        )

    async def _notify(
        self,
        batch: DeliveryBatch,
        failures: Sequence[dsn.Failure],
        held: Sequence[dsn.Failure],
        results: list[DeliveryResult],
    ) -> None:
        """The notification is on disk before the failed recipient leaves it."""
        message, body = batch.message, batch.body
        try:
            failed = await self.tell(message, body, failures, "failed") if failures else True
            if held and await self.tell(message, body, held, "delayed"):
                self._spool.report(Warned(message.id))
        except Exception as error:
            self.park(batch, error)
            return
        if not failed:  # the recipient is not given up without a word
            told = {failure.recipient.address for failure in failures}
            again = time.time() + retries.FIRST_RETRY
            results = [
                DeliveryResult(r.id, r.address, again, "4.3.0 no notification could be stored")
                if r.address in told and r.next_try is None
                else r
                for r in results
            ]
        self._close(batch, results)

    async def tell(
        self, message: QueuedMessage, body: bytes | None, about: Sequence[dsn.Failure], action: dsn.Action
    ) -> bool:
        """Send the sender a notification, if one is wanted. False if that could not be stored."""
        told = [f for f in about if dsn.wants_notification(message.envelope, f.recipient, action)]
        if not told or self._reader.server is None:
            return True
        try:
            original = body if body is not None else self._body(message)
            now = time.time()
            host = self._reader.server.hostname
            report = dsn.build(message.id, message.envelope, original, told, host, now, action)
            utf8 = dsn.is_international(message.envelope, told)
            to = Recipient(Address(message.envelope.sender))
            back = Envelope("", (to,), now, smtputf8=utf8, body_8bit=not report.isascii())
            id = await self._spool.accept(back, report)
        except KeyError:
            return True  # an administrator deleted it
        except Exception as error:
            what = error if isinstance(error, SpoolError) else repr(error)
            self._log(f"no notification id={message.id} {what}")
            return False
        metrics.NOTIFICATIONS.inc()
        self._log(f"notified id={message.id} sender=<{message.envelope.sender}> action={action} as={id}")
        return True

    def _body(self, message: QueuedMessage) -> bytes:
        """Raises KeyError when it is done. One that is lost must not keep its sender from hearing of it."""
        try:
            return self._spool.schedule.body(message.id)
        except BodyMissing as error:
            self._log(f"notified without its text id={message.id} {error}")
            return b""

    def _close(self, batch: DeliveryBatch, results: Sequence[DeliveryResult]) -> None:
        for result in results:
            self._spool.report(result)
        self._closed(batch)


def _result(batch: DeliveryBatch, recipient: Recipient, later: Sequence[str], now: float) -> DeliveryResult:
    id, address = batch.id, recipient.address
    if not later:
        return DeliveryResult(id, address, None)
    reply = str(batch.replies[later[0]])
    if batch.reserved is not None:
        return DeliveryResult(id, address, batch.reserved, reply, tried=False, reserved=True)
    again = now + retries.backoff(batch.message.attempts)
    # Those that took their copy get none again: the others take the recipient's place.
    replaced_by = tuple(Address(t) for t in later) if len(later) < len(batch.targets[address]) else ()
    return DeliveryResult(id, address, again, reply, replaced_by)
