"""A limit's outcome for a mailing: a later time, or word to its sender at once."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailpods.bulk.limits import AHEAD, Limits
from mailpods.bulk.suppression import Suppressions
from mailpods.delivery.batch import DeliveryBatch
from mailpods.delivery.destinations.mx import Domain
from mailpods.delivery.outcomes import response_classes
from mailpods.delivery.outcomes.retry import LIFETIME
from mailpods.delivery.queues.bulk_gate import BulkGate
from mailpods.directory.records import Address, DomainName, Pool
from mailpods.spool.message import Envelope, MessageId, QueuedMessage, Recipient


@pytest.mark.parametrize("waited", [0.0, 3.5 * 86400, 4.5 * 86400])
def test_a_mailing_without_room_before_it_expires_comes_back_at_once(tmp_path: Path, waited: float) -> None:
    reader: Any = SimpleNamespace(server=SimpleNamespace(bulk=Pool("b", tenant_per_day=1)))
    gate = BulkGate(reader, Limits({}, lambda *_: None), Suppressions(tmp_path))
    now = time.time()
    planned = 0
    for n in range(10):
        to = Recipient(Address("x@far.test"))
        envelope = Envelope("news@a.test", (to,), now - waited)
        message = QueuedMessage(MessageId(str(n)), envelope, (to,), attempts=0)
        batch = DeliveryBatch(message, Domain(DomainName("far.test")))
        batch.targets[to.address] = [to.address]
        if not gate.must_wait(batch, "7"):
            assert n == 0
        elif batch.reserved is not None:
            planned += 1
            assert batch.reserved < now - waited + LIFETIME and batch.replies[to.address].code == 452
        else:
            reply = batch.replies[to.address]
            assert reply.permanent and "the limit of a day" in reply.text
            assert response_classes.of(reply) == "rate"
    assert planned - max(AHEAD - waited, 0) // 86400 in (0, 1)
    assert planned < 9
