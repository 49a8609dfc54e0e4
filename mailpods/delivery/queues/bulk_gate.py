"""What the bulk pool holds back on the way to others: suppressed recipients, and what is over a limit."""

import time

from mailpods.bulk.limits import AHEAD, Limits
from mailpods.bulk.suppression import Suppressions
from mailpods.delivery import metrics
from mailpods.delivery.batch import SUPPRESSED, DeliveryBatch
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.queues.scheduler import POLL_SECONDS
from mailpods.directory.reader import DirectoryReader


class BulkGate:
    """`suppressions` is None in the other pods, which hold nothing back."""

    def __init__(self, reader: DirectoryReader, limits: Limits, suppressions: Suppressions | None) -> None:
        self._reader, self._limits, self._suppressions = reader, limits, suppressions

    def targets(self, batch: DeliveryBatch) -> list[str]:
        """Those that get their copies; the others have their replies."""
        if self._suppressions is None or not batch.destination.is_remote:
            return batch.all_targets
        return [target for target in batch.all_targets if not self._is_suppressed(batch, target)]

    def _is_suppressed(self, batch: DeliveryBatch, target: str) -> bool:
        """Whether the sender's domain has been told not to write there any more, since it was taken."""
        assert self._suppressions is not None
        domain = batch.message.envelope.sender.rpartition("@")[2]
        reason = self._suppressions.reason(domain, target)
        if reason is None:
            return False
        metrics.SUPPRESSED.inc()
        batch.replies[target] = Reply(550, f"5.7.1 {SUPPRESSED} of {domain}: {reason}")
        return True

    def must_wait(self, batch: DeliveryBatch, tenant: str) -> bool:
        """Whether a limit gives the batch a later time, or none at all, which is then its outcome."""
        message = batch.message
        if self._suppressions is None or not batch.destination.is_remote:
            return False
        pool = self._reader.server.bulk if self._reader.server else None
        if pool is None or message.attempts or message.reserved:
            return False
        now, count = time.time(), len(batch.targets)
        by = max(message.envelope.received_at + AHEAD, now)
        at, why = self._limits.reserve(pool, tenant, message.envelope.campaign, count, now, by)
        if at <= now + POLL_SECONDS:
            return False
        if at > by:  # its sender hears of it now, and not when it expires
            full = Reply(554, f"5.7.28 {why} leaves no room before it would expire")
            batch.replies.update(dict.fromkeys(batch.all_targets, full))
            return True
        batch.reserved = at
        for target in batch.all_targets:
            batch.replies[target] = Reply(452, f"4.7.28 it waits for its turn: {why}")
        metrics.LIMITED.inc(count)
        return True
