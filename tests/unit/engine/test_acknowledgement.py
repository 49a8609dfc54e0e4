"""What hinders the objects of a server, by what is known of its pods."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.pods import MailPods
from mail_operator.compiler.plan import Dependencies
from mail_operator.components.component import Component
from mail_operator.engine.acknowledgement import Acknowledgements, Expected
from mail_operator.engine.runtime import Program, Runtime, Timings
from mail_operator.kinds.meta import ObjectRef

from mailpods.directory.shards import STORE_FILE
from tests.support.compiling import SERVER, Compiled, domain, mailbox, server


def pod(component: str) -> CachedPod:
    return CachedPod(component, "main", component, "0", "192.0.2.1", ready=True, deleting=False)


def test_pods_that_have_no_files_are_not_asked_and_hinder_nobody() -> None:
    expected = Expected(Compiled(server()).plan)
    pods = {("default", f"main-{name}-0"): pod(name) for name in ("portal", "of-a-later-version")}
    found = Acknowledgements(cast(Runtime, MailPods(ApiClient.__new__(ApiClient), lambda: pods, print)))
    assert not asyncio.run(found.ask(expected))
    missing = found.missing(expected, SERVER)
    assert missing.unserved == "no smtp and no store pod is ready" and not missing.files


class Shards:
    """A runtime with a smtp pod and store pods, of which those in `up` serve and load what there is."""

    def __init__(self, expected: Expected) -> None:
        self.up, self.expected, self.timings = {0, 1}, expected, Timings()

    def programs(self, _: object) -> list[Program]:
        stores = [Program(f"store-{n}", SERVER, "store", "credentials", "", n) for n in sorted(self.up)]
        return [Program("smtp-0", SERVER, "smtp", "directory", ""), *stores]

    async def ask(self, program: Program) -> object:
        return self.expected.of(SERVER, program.mount)

    async def reaches(self, *_: object) -> bool:
        return True


def test_what_a_shard_acknowledged_stays_until_a_file_changes() -> None:
    def expected(*logins: str) -> Expected:
        boxes = [mailbox(name, shard=1) for name in logins]
        return Expected(Compiled(server(store={"shards": 2}), domain("a.test"), *boxes).plan)

    first = expected("info")
    runtime = Shards(first)
    found = Acknowledgements(cast(Runtime, runtime))
    files = frozenset(first.all_of(SERVER))
    box = Dependencies(SERVER, files, frozenset({1}))

    def lacks(of: Expected) -> bool:
        found.forget_stale(of)
        asyncio.run(found.ask(of))
        return found.missing(of, SERVER).lacks(box)

    runtime.up = {0}
    assert lacks(first) and found.missing(first, SERVER).why(box) == "no store pod of shard 1 is ready"
    runtime.up = {0, 1}
    assert not lacks(first)
    runtime.up = {0}
    assert not lacks(first), "it comes again with the same files"
    runtime.up = set()
    assert not lacks(first) and found.missing(first, SERVER).unserved
    runtime.up = {0}
    runtime.expected = second = expected("info", "more")
    assert lacks(second), "this shard has never had them"
    runtime.up = {0, 1}
    assert not lacks(second)
    runtime.expected = first
    runtime.up = {0}
    assert lacks(first), "not what was acknowledged once, before it was replaced"


class Pods:
    """A runtime with one store pod; `meanwhile` happens while it answers."""

    timings = Timings()

    def __init__(self) -> None:
        self.hashes: Mapping[str, str] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    def programs(self, components: Sequence[Component]) -> list[Program]:
        return [Program("store", SERVER, "store", "credentials", "", 0)]

    async def ask(self, program: Program) -> Mapping[str, str]:
        self.meanwhile()
        return self.hashes

    async def reaches(self, of: ObjectRef, components: Sequence[Component]) -> bool:
        return True


def test_what_was_loaded_before_a_file_changed_and_came_back_counts_no_more() -> None:
    one, other = (Expected(Compiled(server(store={"retentionDays": n})).plan) for n in (1, 2))
    pods = Pods()
    found = Acknowledgements(cast(Runtime, pods))
    pods.hashes = other.of(SERVER, "credentials")
    asyncio.run(found.ask(one))
    assert found.missing(one, SERVER).files == {STORE_FILE}, "that is an older one"
    pods.hashes = one.of(SERVER, "credentials")
    assert asyncio.run(found.ask(one)) and not found.missing(one, SERVER).files
    for plan in (other, one):
        found.forget_stale(plan)
        assert found.missing(plan, SERVER).files == {STORE_FILE}


def test_an_answer_to_a_question_of_before_the_plan_counts_not_even_if_it_fits() -> None:
    expected = Expected(Compiled(server()).plan)
    pods = Pods()
    found = Acknowledgements(cast(Runtime, pods))
    pods.hashes = expected.of(SERVER, "credentials")
    pods.meanwhile = lambda: found.forget_stale(expected)
    asyncio.run(found.ask(expected))
    assert found.missing(expected, SERVER).files == pods.hashes.keys()
    pods.meanwhile = lambda: None
    asyncio.run(found.ask(expected))
    assert not found.missing(expected, SERVER).files
