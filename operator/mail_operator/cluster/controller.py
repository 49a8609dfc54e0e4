"""When what is done: quiet after changes, compile, make, apply, touch, wait for the pods, tell.

something changed ─▶ a quiet moment ─▶ compile ─▶ Secrets made, objects applied, pods touched
                                                      │
                  statuses written ◀── pods asked, until they have loaded everything ◀┘
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from mail_operator.cluster import metrics
from mail_operator.cluster.applier import Applier, decoded, server_of
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.finalizer import DomainFinalizer
from mail_operator.cluster.kinds import CHILDREN, path
from mail_operator.cluster.pods import ASK_SECONDS, Expected, MailPods
from mail_operator.cluster.provisioner import SecretProvisioner
from mail_operator.cluster.state import ClusterState, recovered
from mail_operator.cluster.statuses import Status, Statuses
from mail_operator.compiler import compile
from mail_operator.compiler.plan import Plan
from mail_operator.compiler.server import VERSIONS
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.status import invalid_status, not_applied, withheld
from mail_operator.engine import memory
from mail_operator.engine.faults import FaultLog
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import API_VERSION, GROUP, ObjectRef

QUIET_SECONDS, LONGEST_SECONDS = 0.2, 1.0  # after a change; of changes that do not end
FLIGHT_SECONDS = 3.0  # that the next round waits for the pods to load what the last one wrote
TOUCH_SECONDS = 2.0  # until pods that are still behind are touched again
PATIENCE_SECONDS = 5.0  # until an object that waits for its pods is told to be waiting
SETTLE_SECONDS = 30.0  # that the first round waits for the Secrets that are named
LOOK_SECONDS = 300.0  # between rounds when nothing changes: certificates, and what failed before
ALLOCATIONS_AT_ONCE = 16
CALM_SECONDS = 2.0  # without changes, after which memory is given back
RETRY_SECONDS = 5.0  # after a round in which something failed
PAUSED = f"{GROUP}/paused"  # annotation of a MailServer: its objects are left as they are


class Controller:
    """`run()` it; `synced` and `alive` are for probes."""

    def __init__(self, client: ApiClient, image: str, log: Callable[[str], None]) -> None:
        self._client, self._log = client, log
        self._work = asyncio.Event()
        self.state = ClusterState(client, image, self._changed, log)
        self._applier = Applier(client, self.state.child, log)
        self._provisioner = SecretProvisioner(client, log)
        self._pods = MailPods(client, lambda: self.state.pods.objects, log)
        self._statuses = Statuses(client, self.state.cached, log)
        self._finalizer = DomainFinalizer(client, log)
        self._faults = FaultLog(log)
        self._snapshot = Snapshot()
        self.plan = Plan()
        self._expected = Expected(self.plan)
        self._waiting: dict[ObjectRef, float] = {}  # who waits for pods, since when
        self._certificates: dict[ObjectRef, str] = {}  # MailServer -> the version of its certificate's Secret
        self._news = asyncio.Event()  # pods may be behind
        self._landed = asyncio.Event()  # what the last round wrote is loaded
        self._landed.set()
        self._flying: set[ObjectRef] = set()  # servers whose pods it touched
        self._touched_at = 0.0  # when, on the clock of the event loop
        self._turn = asyncio.Lock()  # statuses are written by one at a time
        self.synced = False
        self.beat = time.monotonic()  # of the last round or wait that ended

    def _changed(self, ref: ObjectRef) -> None:
        if ref.kind == "Pod":
            self._news.set()
            return
        if ref.kind in ("Secret", *CHILDREN) and ref.name and self.state.child(ref) is None:
            self._applier.removed(ref)
        self._work.set()

    async def run(self) -> None:
        """Until it is cancelled, or one of its tasks fails."""
        await self._pods.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                for reflector in self.state.reflectors:
                    tasks.create_task(reflector.run())
                for reflector in self.state.reflectors:
                    await reflector.complete.wait()
                await self._take_over()
                self.synced = True
                self._work.set()
                tasks.create_task(self._follow_pods())
                await self._rounds()
        finally:
            await self._pods.close()

    async def _take_over(self) -> None:
        """Learn what was before: which passwords are hashed already, and what Secrets hold."""
        for (namespace, name), cached in list(self.state.secret_versions.objects.items()):
            if cached.hash and "-credentials-" in name:
                secret = await self._client.get(path(ObjectRef("Secret", namespace, name)))
                self.state.secrets.recover(recovered(decoded(secret, VERSIONS)))
        # Without the contents of Secrets the first plan would take back what the last one made of them.
        self.state.snapshot(self.plan)
        await self.state.secrets.settle(SETTLE_SECONDS)

    async def _rounds(self) -> None:
        wait, first = LOOK_SECONDS, True
        while True:
            await self._until_work(wait)
            await self._quiet()
            await self._landing()
            began = time.monotonic()
            try:
                ok = await self._round(first)
                first = False
            except Exception as error:  # the next round may find a better world
                self._log(f"round failed: {error!r}")
                ok = False
            metrics.ROUND.observe(time.monotonic() - began)
            metrics.FAILED.inc(not ok)
            self.beat = time.monotonic()
            wait = LOOK_SECONDS if ok else RETRY_SECONDS

    async def _until_work(self, seconds: float) -> None:
        """Until something changed, or the time is over. When it is calm, freed memory goes back."""
        for moment in (CALM_SECONDS, seconds - CALM_SECONDS):
            try:
                async with asyncio.timeout(moment):
                    await self._work.wait()
                return
            except TimeoutError:
                memory.trim_memory()

    async def _quiet(self) -> None:
        """Let changes that come together be seen together."""
        end = time.monotonic() + LONGEST_SECONDS
        while self._work.is_set() and time.monotonic() < end:
            self._work.clear()
            await asyncio.sleep(QUIET_SECONDS)
        self._work.clear()

    async def _landing(self) -> None:
        """Let the pods load what was written before it is replaced.

        Where changes do not end, files replaced every second would never be those that a pod has loaded.
        """
        try:
            async with asyncio.timeout_at(self._touched_at + FLIGHT_SECONDS):
                await self._landed.wait()
        except TimeoutError:
            pass
        self._work.clear()  # what came meanwhile is in the snapshot of this round

    async def _round(self, first: bool) -> bool:
        """Look, compile, make, apply. Returns whether all went well."""
        snapshot = self.state.snapshot(self.plan)
        began = time.monotonic()
        # In a thread: it is pure, and ten thousand mailboxes take a second.
        plan = await asyncio.to_thread(compile, snapshot, self.plan)
        metrics.COMPILE.observe(time.monotonic() - began)
        self._faults.tell(plan)
        wanted_before = {(s.namespace, s.name) for s in self.plan.secrets}
        # Together, or a status of this plan would be held against the files of the one before.
        self._snapshot, self.plan, self._expected = snapshot, plan, Expected(plan)
        self._pods.forget_stale(self._expected)
        self.state.ask(plan)
        if {(s.namespace, s.name) for s in plan.secrets} != wanted_before:
            self._work.set()  # the next snapshot holds what these were made to be
        paused = {ref for ref in plan.directory if self._is_paused(ref)}
        allocated = await self._allocate()
        await self._provisioner.make(
            (s for s in plan.secrets if not _of(s.namespace, s.name, paused)),
            self.state.secret_versions.objects,
            self.state.secrets.whole,
        )
        objects = [o for o in plan.objects if server_of(o) not in paused]
        if first:
            await self._applier.verify(o for o in objects if o["kind"] == "Secret")
        owners = {ref: cached.made_of[0] for ref in plan.directory if (cached := self.state.cached(ref))}
        written = await self._applier.apply(objects, owners)
        metrics.APPLIED.inc(len(written))
        gone = (ref for server, refs in plan.prunable.items() if server not in paused for ref in refs)
        pruned = await self._applier.prune(gone)
        touched = {o for o in plan.directory if any(_is_files(w, o) for w in written)}
        touched |= self._renewed(snapshot)
        if touched:
            self._landed.clear()
            self._flying = touched
            self._touched_at = asyncio.get_running_loop().time()
            await self._pods.touch(touched, str(time.time_ns()))
        told = await self._tell()
        self._news.set()
        return allocated and told and pruned and not self._applier.failed

    def _renewed(self, snapshot: Snapshot) -> set[ObjectRef]:
        """MailServers whose certificate, whoever makes it, is another one than at the last round."""
        marks: dict[ObjectRef, str] = {}
        for ref, resource in snapshot.objects.items():
            if isinstance(resource, MailServer):
                name = (ref.namespace, resource.certificate_secret)
                if cached := self.state.secret_versions.get(name):
                    marks[ref] = cached.mark
        before, self._certificates = self._certificates, marks
        return {ref for ref, mark in marks.items() if ref in before and before[ref] != mark}

    def _is_paused(self, server: ObjectRef) -> bool:
        resource = self._snapshot.objects.get(server)
        return resource is not None and PAUSED in resource.metadata.annotations

    def _refused(self) -> dict[ObjectRef, str]:
        """MailServer -> what of its objects the cluster did not take."""
        return {self._applier.server_of(ref): f"{ref}: {why}" for ref, why in self._applier.failed.items()}

    async def _allocate(self) -> bool:
        """Write into spec what was decided and cannot be derived, where blank. Whether all went well."""
        slots = asyncio.Semaphore(ALLOCATIONS_AT_ONCE)

        async def write(ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
            meta = {"name": ref.name, "namespace": ref.namespace}
            async with slots:
                try:
                    for field, value in patch.items():
                        body = {"apiVersion": API_VERSION, "kind": ref.kind, "metadata": meta}
                        # A manager for each field: one that applies the second takes back the first.
                        manager = f"mailpods-{field}"
                        await self._client.apply(
                            path(ref), {**body, "spec": {field: value}}, force=False, manager=manager
                        )
                    self.state.allocated(ref, patch)
                    return True
                except ApiError as error:
                    # Gone, or somebody wrote another value: the watch brings it. Anything else ends the
                    # round: what is not written down must not be put to use.
                    if error.code not in (404, 409, 422):
                        raise
                    self._log(f"{ref}: {dict(patch)} not written: {error}")
                    return False

        return all(await asyncio.gather(*(write(ref, patch) for ref, patch in self.plan.allocations.items())))

    async def _follow_pods(self) -> None:
        """Ask the pods while they are behind, and say what they told, until it is written."""
        touched = time.monotonic()
        untold, again = False, 0.0
        while True:
            await self._news.wait()
            self._news.clear()
            expected = self._expected
            further = await self._pods.ask(expected)
            missing = {s: self._pods.missing(expected, s) for s in expected.servers}
            behind = {s for s, m in missing.items() if m.files or m.unserved}
            if expected is self._expected and behind.isdisjoint(self._flying):
                self._landed.set()
            late = time.monotonic() - PATIENCE_SECONDS
            overdue = any(late - 1 < since < late for since in self._waiting.values())
            if further or overdue or (untold and time.monotonic() >= again):
                untold = not await self._tell()
                again = time.monotonic() + RETRY_SECONDS
            if not (behind or untold):
                continue
            await asyncio.sleep(ASK_SECONDS if behind else RETRY_SECONDS)
            self._news.set()
            if time.monotonic() - touched > TOUCH_SECONDS:
                touched = time.monotonic()
                await self._pods.touch({s for s in behind if missing[s].files}, str(time.time_ns()))

    async def _tell(self) -> bool:
        """Write the statuses. Ready=True waits until every pod that serves the object has its files."""
        async with self._turn:
            now = time.monotonic()
            missing = {s: self._pods.missing(self._expected, s) for s in self._expected.servers}
            wanted: dict[ObjectRef, Status] = {}
            waiting: dict[ObjectRef, float] = {}
            for ref, status in self.plan.statuses.items():
                dependencies = self.plan.dependencies.get(ref)
                lacks = missing.get(dependencies.server) if dependencies else None
                if dependencies and lacks and lacks.lacks(dependencies):
                    since = waiting[ref] = self._waiting.get(ref, now)
                    if now - since < PATIENCE_SECONDS:
                        continue  # one write instead of two, for most
                    status = withheld(status, lacks.unserved)
                wanted[ref] = status
            for server, message in self._refused().items():
                if server in self.plan.statuses:
                    wanted[server] = not_applied(self.plan.statuses[server], message)
                    waiting.pop(server, None)
            for ref, cached in self.state.invalid():
                wanted[ref] = invalid_status(cached.problems, cached.made_of[1])
            for ref in self._waiting.keys() & wanted.keys() - waiting.keys():
                metrics.ACKNOWLEDGED.observe(now - self._waiting[ref])
            self._waiting = waiting
            metrics.tell_waiting(waiting.values(), now)
            metrics.tell_objects(wanted, waiting.keys())
            busy = self._work.is_set() or any(now - since < PATIENCE_SECONDS for since in waiting.values())
            told = await self._statuses.write(wanted, waiting.keys(), busy)
        ended = await self._finalizer.proceed(
            self.state.domains(), self._snapshot, lambda server: self._pods.missing(self._expected, server)
        )
        return told and ended


def _is_files(ref: ObjectRef, server: ObjectRef) -> bool:
    """Whether this is one of the Secrets with the server's files."""
    mounts = tuple(f"{server.name}-{mount}" for mount in ("directory", "credentials"))
    return ref.kind == "Secret" and ref.namespace == server.namespace and ref.name.startswith(mounts)


def _of(namespace: str, name: str, servers: set[ObjectRef]) -> bool:
    """Whether a made Secret belongs to one of these servers."""
    return any(namespace == s.namespace and name in (f"{s.name}-tls", f"{s.name}-key") for s in servers)
