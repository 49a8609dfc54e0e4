"""What hinders the objects of a server, by what is known of its pods."""

import asyncio
from typing import cast

from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.pods import MailPods
from mail_operator.engine.acknowledgement import Acknowledgements, Expected
from mail_operator.engine.runtime import Runtime

from tests.support.compiling import SERVER, Compiled, server


def pod(component: str) -> CachedPod:
    return CachedPod(component, "main", component, "0", "192.0.2.1", ready=True, deleting=False)


def test_pods_that_have_no_files_are_not_asked_and_hinder_nobody() -> None:
    expected = Expected(Compiled(server()).plan)
    pods = {("default", f"main-{name}-0"): pod(name) for name in ("portal", "of-a-later-version")}
    found = Acknowledgements(cast(Runtime, MailPods(ApiClient.__new__(ApiClient), lambda: pods, print)))
    assert not asyncio.run(found.ask(expected))
    missing = found.missing(expected, SERVER)
    assert missing.unserved == "no smtp and no store pod is ready" and not missing.files
