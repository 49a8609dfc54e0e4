"""What the pods have loaded: an acknowledgement is a program's hash of each file that is in force."""

import asyncio
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from mail_operator.compiler.plan import Dependencies, Plan
from mail_operator.engine.runtime import Program, Runtime
from mail_operator.kinds.meta import ObjectRef
from mailpods.directory.shards import content_hash

_MOST_SECONDS = 5.0  # between attempts to reach pods through their Services


class Expected:
    """The files of a Plan by server and mount, each with its hash."""

    def __init__(self, plan: Plan, before: "Expected | None" = None) -> None:
        """`before` makes it faster: a file that is the same object has the same hash."""
        self.components = plan.components
        self.vital = tuple(each for each in plan.components if each.vital)  # without which nothing works
        known = before._files if before else {}
        self._files: dict[tuple[ObjectRef, str, str], tuple[bytes, str]] = {}
        self._hashes: dict[tuple[ObjectRef, str], dict[str, str]] = {}
        self._all: dict[ObjectRef, dict[str, str]] = {}
        for mount, mounted in (("directory", plan.directory), ("credentials", plan.credentials)):
            for server, files in mounted.items():
                hashes = self._hashes.setdefault((server, mount), {})
                for name, data in files.items():
                    was = known.get((server, mount, name))
                    entry = was if was and was[0] is data else (data, content_hash(data))
                    self._files[server, mount, name] = entry
                    hashes[name] = entry[1]
                    together = self._all.setdefault(server, {})
                    together[name] = together.get(name, "") + entry[1]

    def of(self, server: ObjectRef, mount: str) -> Mapping[str, str]:
        """File name -> hash."""
        return self._hashes.get((server, mount), {})

    def all_of(self, server: ObjectRef) -> Mapping[str, str]:
        """The same of all mounts; of files of one name the hashes stand side by side."""
        return self._all.get(server, {})

    @property
    def servers(self) -> set[ObjectRef]:
        """Those that have files."""
        return {server for server, _ in self._hashes}


@dataclass(frozen=True)
class Missing:
    """What the pods of a server lack. `unserved`: why no connection reaches it at all, "" if one does."""

    files: frozenset[str]  # that some program has not loaded
    shards: frozenset[int]  # whose pod is ready
    unserved: str = ""
    pending: frozenset[str] = frozenset()  # not yet loaded, as it is now, by all that served at one time
    # The others -> the shards that served then. Pods that leave since take nothing back: they come again
    # with the same files.
    acknowledged: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def lacks(self, dependencies: Dependencies) -> bool:
        """Whether not every pod that serves an object has acknowledged its files."""
        known = self.acknowledged
        return not self.pending.isdisjoint(dependencies.files) or any(
            not dependencies.shards <= known.get(file, self.shards) for file in dependencies.files
        )

    def why(self, dependencies: Dependencies) -> str:
        """What an object waits for, beside the files; "" if for nothing."""
        down = sorted(dependencies.shards - self.shards)
        return self.unserved or (f"no store pod of shard {down[0]} is ready" if down else "")


class Acknowledgements:
    """One for each engine."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loaded: dict[Hashable, Mapping[str, str]] = {}  # program -> file -> hash
        # Server -> file -> the hash that all that serves had loaded once, and the shards among them.
        self._acknowledged: dict[ObjectRef, dict[str, tuple[str, frozenset[int]]]] = {}
        self._plans = 0  # how many there were: answers to questions of before the last one do not count
        self._reached: set[ObjectRef] = set()  # servers whose Services lead to pods
        self._unreached: dict[ObjectRef, tuple[float, float]] = {}  # the others: when to try, after what wait

    def _serving(self, expected: Expected, server: ObjectRef) -> list[Program]:
        return [each for each in self._runtime.programs(expected.components) if each.server == server]

    def forget_stale(self, expected: Expected) -> None:
        """To be called with each new plan: what was loaded of a file that changes now is no answer any more.

        Not even when the file becomes again what it was: a program may have seen what was between.
        """
        self._plans += 1
        for program in self._runtime.programs(expected.components):
            wanted, loaded = expected.of(program.server, program.mount), self._loaded.get(program.key, {})
            if any(wanted.get(file) != digest for file, digest in loaded.items()):
                self._loaded[program.key] = {f: d for f, d in loaded.items() if wanted.get(f) == d}
        before, self._acknowledged = self._acknowledged, {}
        for server in before.keys() & expected.servers:
            now = expected.all_of(server)
            self._acknowledged[server] = {f: e for f, e in before[server].items() if now.get(f) == e[0]}

    def missing(self, expected: Expected, server: ObjectRef) -> Missing:
        """What hinders the objects of a server."""
        serving = self._serving(expected, server)
        files: set[str] = set()
        for program in serving:
            loaded = self._loaded.get(program.key, {})
            files |= {f for f, d in expected.of(server, program.mount).items() if loaded.get(f) != d}
        shards = frozenset(p.shard for p in serving if p.component == "store" and p.shard is not None)
        unserved = ""
        if absent := {each.name for each in expected.vital} - {program.component for program in serving}:
            unserved = f"no {' and no '.join(sorted(absent))} pod is ready"
        elif server not in self._reached:
            unserved = "the Services do not lead to the pods yet"
        acknowledged = self._acknowledged.setdefault(server, {})
        if not unserved:
            for file, digest in expected.all_of(server).items():
                if file not in files:
                    _, before = acknowledged.get(file, ("", frozenset[int]()))
                    acknowledged[file] = digest, before | shards
        known = {file: served for file, (_, served) in acknowledged.items()}
        pending = frozenset(expected.all_of(server).keys() - known.keys())
        return Missing(frozenset(files), shards, unserved, pending, known)

    async def ask(self, expected: Expected) -> bool:
        """Ask the programs that are behind. Returns whether something got further."""
        arrived = await asyncio.gather(*(self._reach(expected, server) for server in expected.servers))
        programs = self._runtime.programs(expected.components)
        behind = [
            program
            for program in programs
            if not expected.of(program.server, program.mount).items()
            <= self._loaded.get(program.key, {}).items()
        ]
        plans = self._plans
        answers = await asyncio.gather(*(self._runtime.ask(program) for program in behind))
        if plans != self._plans:
            return any(arrived)
        before = self._loaded
        there = {program.key for program in programs}
        self._loaded = {key: loaded for key, loaded in before.items() if key in there}
        for program, answer in zip(behind, answers, strict=True):
            if answer is not None:
                self._loaded[program.key] = answer
        return before != self._loaded or any(arrived)

    async def _reach(self, expected: Expected, server: ObjectRef) -> bool:
        """Whether the Services lead to pods now and did not before: nodes learn of a new one with delay."""
        serving = {program.component for program in self._serving(expected, server)}
        if not serving >= {each.name for each in expected.vital}:
            self._reached.discard(server)
            return False
        at, waited = self._unreached.get(server, (0.0, self._runtime.timings.ask))
        if server in self._reached or time.monotonic() < at:
            return False
        if await self._runtime.reaches(server, expected.vital):
            self._reached.add(server)
            self._unreached.pop(server, None)
            return True
        waited = min(2 * waited, _MOST_SECONDS)
        self._unreached[server] = (time.monotonic() + waited, waited)
        return False
