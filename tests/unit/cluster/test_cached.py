"""What is cached of objects that another version of the operator wrote."""

from typing import Any

from mail_operator.cluster.cached import cache_resource
from mail_operator.engine.runtime import ObservedResource


def seen(
    spec: dict[str, Any], known: ObservedResource | None = None, generation: int = 1
) -> ObservedResource:
    """What is cached of a Mailbox."""
    meta = {"name": "info", "namespace": "a", "uid": "u", "generation": generation}
    return cache_resource("Mailbox")({"metadata": meta, "spec": {"domainRef": {"name": "a"}, **spec}}, known)


def test_an_object_of_a_later_version_is_there_after_a_restart() -> None:
    cached = seen({"quota": "1Gi", "vacation": {"days": 3}})
    assert cached.problems == ()
    assert cached.resource and cached.resource.unknown == ("spec.vacation",)


def test_what_cannot_be_read_keeps_its_last_version() -> None:
    before = seen({"quota": "1Gi"})
    after = seen({"quota": "1Gb"}, before, 2)
    assert after.resource is before.resource and after.problems[0][0] == "spec.quota"
