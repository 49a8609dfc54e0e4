"""Which programs are asked what they have loaded."""

from dataclasses import replace
from typing import Any

import pytest
from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.pods import MailPods
from mail_operator.components import COMPONENTS
from mail_operator.engine.runtime import Program

SMTP = CachedPod("uid", "main", "smtp", "1", "192.0.2.1", ready=True, deleting=False)


def programs(pod: CachedPod) -> list[Program]:
    pods = {("t", "main-smtp-1"): pod}
    return list(MailPods(ApiClient.__new__(ApiClient), lambda: pods, print).programs(COMPONENTS))


def test_each_program_of_a_pod_that_serves_is_asked_for_the_files_that_it_mounts() -> None:
    found = {(each.mount, each.at, each.shard) for each in programs(SMTP)}
    assert found == {
        ("directory", "http://192.0.2.1:9100/directory", None),
        ("credentials", "http://192.0.2.1:9101/directory", None),
    }
    (store,) = programs(replace(SMTP, component="store", address="2001:db8::1"))
    assert (store.at, store.shard) == ("http://[2001:db8::1]:9100/directory", 1)


@pytest.mark.parametrize("changed", [{"ready": False}, {"deleting": True}, {"component": "portal"}], ids=str)
def test_who_serves_nobody_or_has_no_files_is_not_asked(changed: dict[str, Any]) -> None:
    assert programs(replace(SMTP, **changed)) == []
