"""Statuses that an API server refuses in part."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.runtime import ClusterRuntime
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.publishing import Publisher
from mail_operator.engine.runtime import ObservedResource
from mail_operator.kinds.meta import ObjectRef

MAIN = ObjectRef("MailServer", "default", "main")
STATUS = {
    "dns": {"records": []},
    "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Propagating", "message": "Soon."}],
}


class Refusing(ApiClient):
    """An API server that refuses what has one of these fields."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields
        self.written: list[Mapping[str, Any]] = []

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if refused := [f for f in self.fields if f.partition(".")[2].partition(".")[0] in body["status"]]:
            raise ApiError(422, "Invalid", "Too many", refused)
        self.written.append(body["status"])
        return {}


@pytest.fixture
def log() -> list[str]:
    """What was said."""
    return []


def written(client: Refusing, log: list[str], times: int = 1) -> bool:
    """Whether the status counts as written."""

    async def write() -> bool:
        runtime = ClusterRuntime(client, "image", log.append)
        there = ObservedResource(("uid", 1, ()), None, (), False, False, b"{}")
        runtime.resources["MailServer"].each[0]._objects = {("default", "main"): there}
        publisher = Publisher(runtime, FaultLog(log.append), log.append)
        return [await publisher.publish({MAIN: STATUS}) for _ in range(times)][-1]

    return asyncio.run(write())


def test_a_refused_part_takes_nothing_else_along(log: list[str]) -> None:
    client = Refusing("status.dns.records")
    assert written(client, log, times=2)
    (status,) = client.written  # and is not tried again and again
    assert "dns" not in status and status["conditions"][0]["reason"] == "Propagating"
    assert [line for line in log if "status.dns not written" in line] == log != []


def test_refused_conditions_are_an_error(log: list[str]) -> None:
    client = Refusing("status.conditions")
    assert not written(client, log)
    assert "422" in log[0]
