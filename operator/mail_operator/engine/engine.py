"""When what is done: quiet after changes, compile, provision, apply, await acknowledgement, publish.

something changed ─▶ a quiet moment ─▶ compile ─▶ objects applied, pods hurried    (Secrets are made beside)
                                                      │
                 statuses published ◀── programs asked, until they have loaded everything ◀┘
"""

import asyncio
import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from mail_operator.compiler.compiling import compile
from mail_operator.compiler.plan import Plan
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.status import invalid_status
from mail_operator.components import COMPONENTS
from mail_operator.components.component import Component
from mail_operator.engine import memory, metrics
from mail_operator.engine.acknowledgement import Acknowledgements, Expected, Missing
from mail_operator.engine.allocation import Allocations
from mail_operator.engine.component_health import ComponentWatch
from mail_operator.engine.dns_prober import DnsProber
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.finalizer import DomainFinalizer
from mail_operator.engine.gathering import (
    SecretNames,
    certificates_asked_for,
    is_files,
    names_in,
    served,
    server_of,
    servers,
)
from mail_operator.engine.provisioning import SecretProvisioner
from mail_operator.engine.publishing import Publisher
from mail_operator.engine.readiness import Decided, decide, overrule
from mail_operator.engine.removal import Removals, deleting_status, of_member, removals
from mail_operator.engine.runtime import FatalError, Observation, Runtime
from mail_operator.engine.secret_reader import SecretReader
from mail_operator.kinds import Resource
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.meta import GROUP, ObjectRef
from mail_operator.policies.verdict import Verdict

PAUSED = f"{GROUP}/paused"  # annotation of a MailServer: its objects are left as they are
_LOOKS = 3  # of one round: what the first plan asks for, a look later is often there


class Engine:
    """`run()` it; `synced` and `beat` are for probes."""

    def __init__(
        self,
        runtime: Runtime,
        log: Callable[[str], None],
        components: tuple[Component, ...] = COMPONENTS,
    ) -> None:
        self._runtime, self._log, self._timings = runtime, log, runtime.timings
        self._components = components
        self.faults = FaultLog(log)
        self._reader = SecretReader(runtime, self._something, self.faults)
        self._provisioner = SecretProvisioner(runtime, self._reader, self._something, self.faults, log)
        self._allocations = Allocations(runtime, log)
        self._acknowledgements = Acknowledgements(runtime)
        self._components_now = ComponentWatch(runtime)
        self._publisher = Publisher(runtime, self.faults, log)
        self._finalizer = DomainFinalizer(runtime, self.faults, log)
        self._dns = DnsProber(self.look)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work = asyncio.Event()  # something changed
        self._pods_changed = asyncio.Event()  # programs may be behind
        self._acknowledged = asyncio.Event()  # what the last round wrote is loaded
        self._acknowledged.set()
        self._awaited: set[ObjectRef] = set()  # servers whose files it wrote
        self._written_at = 0.0  # when, on the clock of the event loop
        self._publishing = asyncio.Lock()  # by one at a time
        self._snapshot = Snapshot()
        self._observation = Observation()
        self._removals = Removals()
        self._names = SecretNames()
        self._refused: dict[ObjectRef, Verdict] = {}  # MailServer -> why one of its objects is not there
        self._waiting: dict[ObjectRef, float] = {}  # who waits for pods, since when
        self._certificates: dict[ObjectRef, str] = {}  # MailServer -> the version of its certificate's Secret
        self.plan = Plan()
        self._expected = Expected(self.plan)
        self._planned = False  # the first round has made a plan
        self.synced = False
        self.beat = time.monotonic()  # of the last round or wait that ended

    # What changed ---------------------------------------------------------------------------------------

    def _changed(self, ref: ObjectRef) -> None:
        if ref.kind == "Pod":
            self._pods_changed.set()
            return
        if ref.kind == "Secret" and (name := (ref.namespace, ref.name)) in self._names.hashes:
            self._reader.renew(name, self._runtime.secret(name))  # at once, not after the quiet moment
        self._work.set()

    def _something(self) -> None:
        self._work.set()

    def look(self) -> None:
        """Have a round begin; from any thread, as when DNS says something new."""
        if self._loop:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._work.set)

    # The life of it -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled, or its runtime fails for good."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._runtime.run(self._changed))
                await self._runtime.synced()
                await self._take_over()
                self.synced = True
                self._work.set()
                tasks.create_task(self._follow())
                await self._rounds()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._provisioner.close()
            self._reader.close()

    async def _take_over(self) -> None:
        """Learn what was before: which passwords are hashed already, and what Secrets hold."""
        observation = self._runtime.observe()
        owners = {
            ref: observed.uid for ref, observed in observation.resources.items() if ref.kind == "MailServer"
        }
        self._reader.recover(await self._runtime.remembered_hashes(owners), observation.secrets)

    async def _rounds(self) -> None:
        wait = self._timings.look
        while True:
            await self._until_work(wait)
            await self._quiet()
            await self._await_acknowledgement()
            began = time.monotonic()
            try:
                ok = await self._round()
            except FatalError:
                raise
            except Exception as error:  # the next round may find a better world
                self._log(f"round failed: {error!r}")
                ok = False
            metrics.ROUND.observe(time.monotonic() - began)
            metrics.FAILED.inc(not ok)
            self.beat = time.monotonic()
            wait = self._timings.look if ok else self._timings.retry

    async def _until_work(self, seconds: float) -> None:
        """Until something changed, or the time is over. When it is calm, freed memory goes back."""
        calm = self._timings.calm
        for moment in (calm, seconds - calm):
            try:
                async with asyncio.timeout(moment):
                    await self._work.wait()
                return
            except TimeoutError:
                memory.trim_memory()

    async def _quiet(self) -> None:
        """Let changes that come together be seen together."""
        end = time.monotonic() + self._timings.longest_quiet
        while self._work.is_set() and time.monotonic() < end:
            self._work.clear()
            await asyncio.sleep(self._timings.quiet)

    async def _await_acknowledgement(self) -> None:
        """Let the pods load what was written before it is replaced.

        Where changes do not end, files replaced every second would never be those that a pod has loaded.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._written_at + self._timings.acknowledge):
                await self._acknowledged.wait()

    # A round --------------------------------------------------------------------------------------------

    async def _round(self) -> bool:
        """Look, compile, provision, apply, publish. Returns whether all went well."""
        ok = await self._plan()
        plan, observation = self.plan, self._observation
        paused = {ref for ref in plan.directory if self._is_paused(ref)}
        owners = {ref: observed.uid for ref in plan.directory if (observed := observation.resources.get(ref))}
        applied = await self._runtime.apply(plan.objects, owners, paused)
        metrics.APPLIED.inc(len(applied.written))
        self._refused = {server_of(plan, ref): verdict for ref, verdict in applied.failed.items()}
        prunable = [r for server, refs in plan.prunable.items() if server not in paused for r in refs]
        ok &= await self._runtime.prune(prunable)
        written = {o for o in plan.directory if any(is_files(w, o) for w in applied.written)}
        written |= self._renewed()
        if written:
            self._acknowledged.clear()
            self._awaited = written
            self._written_at = asyncio.get_running_loop().time()
            await self._runtime.hurry(written)
        ok &= await self._publish()
        self._pods_changed.set()
        return ok and not applied.failed and not self._provisioner.failed

    async def _plan(self) -> bool:
        """Compile what is there, until what the plan asks for is there or takes its time."""
        ok, timings = True, self._timings
        for _ in range(_LOOKS):
            self._work.clear()
            # Without the contents of Secrets the first plan would take back what the last one made of them.
            snapshot = await self._look(timings.settle if self._planned else timings.first_settle)
            began = time.monotonic()
            # In a thread: it is pure, and ten thousand mailboxes take a second.
            plan = await asyncio.to_thread(compile, snapshot, self.plan)
            metrics.COMPILE.observe(time.monotonic() - began)
            self.faults.tell(plan)
            before = self.plan.secrets
            # Together, or a status of this plan would be held against the files of the one before.
            self._snapshot, self.plan = snapshot, plan
            self._expected = Expected(plan, self._expected)
            self._acknowledgements.forget_stale(self._expected)
            self._dns.look(plan.questions)
            ok = await self._allocations.write(plan.allocations)
            done = self._reader.reads, self._provisioner.made
            self._provision()
            await self._provisioner.settle(timings.settle)
            asked_for_more = plan.secrets != before or plan.allocations
            if not asked_for_more and done == (self._reader.reads, self._provisioner.made):
                break
        self._planned = True
        return ok

    async def _look(self, seconds: float) -> Snapshot:
        """What is there, as compile() sees it; for a while it waits for Secrets that are being read."""
        observation = self._observation = self._runtime.observe()
        objects = dict(self._objects(observation))
        self._names = names_in(objects, self.plan)
        self._runtime.care_for(self._names.all)
        self._removals = removals(observation)
        names = self._names.hashes, self._names.wholes, observation.secrets
        self._reader.look(*names, forget=self._planned)
        await self._reader.settle(seconds)
        passwords, contents = self._reader.look(*names, forget=self._planned)
        return Snapshot(
            objects=objects,
            passwords=passwords,
            secrets=contents,
            namespaces=observation.namespaces,
            age=observation.age,
            image=observation.image,
            served=served(objects, observation),
            wiped=self._removals.wiped,
            addresses=observation.addresses,
            answers=self._dns.look(self.plan.questions),
            components=self._components,
            now=datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0),
        )

    def _objects(self, observation: Observation) -> Iterator[tuple[ObjectRef, Resource]]:
        for ref, observed in observation.resources.items():
            if observed.resource is not None and not observed.deleting:
                yield ref, self._allocations.overlaid(ref, observed, observed.resource)

    def _provision(self) -> None:
        wanted = list(self.plan.secrets)
        if not self._runtime.issues_certificates:
            wanted += certificates_asked_for(self.plan)
        wanted = [s for s in wanted if not (s.owner.kind == "MailServer" and self._is_paused(s.owner))]
        self._provisioner.look(wanted, self._observation.secrets)

    def _renewed(self) -> set[ObjectRef]:
        """MailServers whose certificate, whoever makes it, is another one than at the last round."""
        marks: dict[ObjectRef, str] = {}
        for server in servers(self._snapshot.objects):
            if seen := self._observation.secrets.get((server.metadata.namespace, server.certificate_secret)):
                marks[server.ref] = seen.mark
        before, self._certificates = self._certificates, marks
        return {ref for ref, mark in marks.items() if ref in before and before[ref] != mark}

    def _is_paused(self, server: ObjectRef) -> bool:
        resource = self._snapshot.objects.get(server)
        return resource is not None and PAUSED in resource.metadata.annotations

    # Acknowledgement, and what is published of it -------------------------------------------------------

    async def _follow(self) -> None:
        """Ask the programs while they are behind, and publish what they acknowledged."""
        again = 0.0
        unpublished, hurried = False, time.monotonic()
        while True:
            await self._pods_changed.wait()
            self._pods_changed.clear()
            try:
                expected = self._expected
                further = await self._acknowledgements.ask(expected)
                further |= self._components_now.look(self.plan)
                missing = self._missing()
                behind = {s for s, lacks in missing.items() if lacks.files or lacks.unserved}
                if expected is self._expected and behind.isdisjoint(self._awaited):
                    self._acknowledged.set()
                if further or self._is_overdue() or (unpublished and time.monotonic() >= again):
                    unpublished = not await self._publish()
                    again = time.monotonic() + self._timings.retry
                if not (behind or unpublished):
                    continue
                await asyncio.sleep(self._timings.ask if behind else self._timings.retry)
                self._pods_changed.set()
                if time.monotonic() - hurried > self._timings.hurry:
                    hurried = time.monotonic()
                    await self._runtime.hurry({s for s in behind if missing[s].files})
            except Exception as error:  # whatever it was: pods are asked again
                self._log(f"asking the pods failed: {error!r}")
                await asyncio.sleep(self._timings.retry)
                self._pods_changed.set()

    def _is_overdue(self) -> bool:
        """Whether somebody has waited long enough to be told so, and may not have been yet."""
        late = time.monotonic() - self._timings.patience
        return any(late - 1 < since < late for since in self._waiting.values())

    def _missing(self) -> dict[ObjectRef, Missing]:
        expected = self._expected
        return {server: self._acknowledgements.missing(expected, server) for server in expected.servers}

    async def _publish(self) -> bool:
        """Write the statuses. Ready=True waits until every pod that serves the object has its files."""
        async with self._publishing:
            observation = self._runtime.observe()
            now, patience = time.monotonic(), self._timings.patience
            decided = decide(self.plan, self._missing(), self._waiting, now, patience)
            overrule(decided, self.plan, self._beside())
            for ref, observed in observation.resources.items():
                if observed.problems and not observed.deleting:
                    decided.statuses[ref] = invalid_status(observed.problems, observed.made_of[1])
            self._end_members(decided, observation)
            self._components_now.add_to(decided.statuses)
            statuses, waiting = decided.statuses, decided.waiting
            for ref in self._waiting.keys() & statuses.keys() - waiting.keys():
                metrics.ACKNOWLEDGED.observe(now - self._waiting[ref])
            self._waiting = waiting
            metrics.record_waiting(waiting.values(), now)
            metrics.record_objects(statuses, waiting.keys())
            busy = self._work.is_set() or any(now - since < patience for since in waiting.values())
            published = await self._publisher.publish(statuses, waiting.keys(), busy)
            self._runtime.round_ended()
        domains = {ref: o for ref, o in self._runtime.observe().resources.items() if ref.kind == "MailDomain"}
        ended = await self._finalizer.proceed(domains, self._snapshot, self._missing_of)
        return published and ended

    def _missing_of(self, server: ObjectRef) -> Missing:
        return self._acknowledgements.missing(self._expected, server)

    def _beside(self) -> Iterator[tuple[ObjectRef, Verdict]]:
        """What hinders objects that compile() is not told of."""
        yield from self._refused.items()
        yield from self._provisioner.verdicts().items()
        broken = {ref for ref in self.faults.noted()}
        for ref in broken:
            if ref.kind != "Secret" and (verdict := self.faults.verdict(ref)):
                yield ref, verdict
        if secrets := {(ref.namespace, ref.name): ref for ref in broken if ref.kind == "Secret"}:
            for ref, resource in self._snapshot.objects.items():
                name = resource.password_secret()
                if name and (of := secrets.get((ref.namespace, name))) and (v := self.faults.verdict(of)):
                    yield ref, v

    def _end_members(self, decided: Decided, observation: Observation) -> None:
        """Domains that are being deleted, and what is in them, say so."""
        ending = {
            ref: observed
            for ref, observed in observation.resources.items()
            if observed.deleting and observed.held and isinstance(observed.resource, MailDomain)
        }
        for ref, observed in ending.items():
            assert isinstance(observed.resource, MailDomain)
            progress = self._finalizer.waits_for(
                observed, observed.resource, self._snapshot, self._missing_of
            )
            held = self._removals.held.get(ref)
            decided.statuses[ref] = deleting_status(observed, held, progress or "its mail is gone")
        if not ending:
            return
        for ref, resource in self._snapshot.objects.items():
            domain = resource.domain
            if domain in ending:
                overrule_member = of_member(domain, domain in self._removals.held)
                decided.statuses.pop(ref, None)
                overrule(decided, self.plan, [(ref, overrule_member)])


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
