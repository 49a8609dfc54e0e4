"""Makes the Secrets that a Plan wants and nobody gave: passwords, keys, certificates of an own authority.

It works beside the rounds, a bounded number at once, and what is slow to make holds up nothing that is quick.
What exists is never overwritten unless Mailpods made it: of two operators at once the first one's stays.
"""

import asyncio
import datetime
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from mail_operator.compiler.plan import GeneratedSecret
from mail_operator.compiler.snapshot import SecretName
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.rotation import rotated
from mail_operator.engine.runtime import ObservedSecret, Runtime, Unavailable
from mail_operator.engine.secret_reader import SecretReader
from mail_operator.engine.secrets import (
    KeyPair,
    generate_password,
    make_ca,
    make_certificate,
    make_dkim_keys,
    needs_renewal,
)
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

_SLOW_AT_ONCE, _QUICK_AT_ONCE = 2, 8  # keys for DKIM take a tenth of a second, everything else a millisecond
_UNSEEN_SECONDS = 30.0  # after which what was made, and is not seen, is made once more
_BROKEN_SECONDS = 60.0  # after an exception of our own
_NEWS_SECONDS = 0.5  # between rounds while much is being made
_LOOK = datetime.timedelta(hours=1)  # between looks at a certificate
_DOING = {
    "tls": "making its certificate",
    "dkim": "making its DKIM keys",
    "password": "making its password",
    "key": "making the installation's key",
}


class Foreign(Exception):
    """A Secret is somebody else's: the one argument is its name."""


class SecretProvisioner:
    """`look()` at a plan; `verdicts` says what hinders the owners of what it wants."""

    def __init__(
        self,
        runtime: Runtime,
        reader: SecretReader,
        changed: Callable[[], None],
        faults: FaultLog,
        log: Callable[[str], None],
    ) -> None:
        self._runtime, self._reader, self._changed = runtime, reader, changed
        self._faults, self._log = faults, log
        self._slots = {True: asyncio.Semaphore(_SLOW_AT_ONCE), False: asyncio.Semaphore(_QUICK_AT_ONCE)}
        self._tasks: dict[SecretName, asyncio.Task[None]] = {}
        self._unseen: dict[SecretName, float] = {}  # made, and not observed yet: until when to wait for that
        self._broken: dict[SecretName, float] = {}  # when to try again
        self._looked: dict[SecretName, tuple[object, datetime.datetime]] = {}  # in what state, when
        # What is wanted and cannot be had: who wants it, and which Secret is somebody else's.
        self._foreign: dict[SecretName, tuple[ObjectRef, SecretName]] = {}
        self._authority_lock = asyncio.Lock()
        self._told_at = 0.0
        self.made = 0  # how many ended

    def look(self, wanted: Iterable[GeneratedSecret], there: Mapping[SecretName, ObservedSecret]) -> None:
        """Begin to make what is missing, certificates that end within the month or lack a name, and keys."""
        now, wanted = time.monotonic(), list(wanted)
        names = {(secret.namespace, secret.name) for secret in wanted}
        for known in (self._unseen, self._broken, self._looked, self._foreign):
            _keep(known, names)
        for name in [name for name in self._tasks if name not in names]:
            self._tasks.pop(name).cancel()
        for secret in wanted:
            name = (secret.namespace, secret.name)
            seen = there.get(name)
            if seen is not None:
                self._unseen.pop(name, None)
            if name in self._tasks or now < max(self._unseen.get(name, 0.0), self._broken.get(name, 0.0)):
                continue
            if (work := self._work(secret, name, seen)) is not None:
                self._begin(secret, name, work)

    def _work(
        self, secret: GeneratedSecret, name: SecretName, seen: ObservedSecret | None
    ) -> Coroutine[Any, Any, None] | None:
        """What there is to do about it now."""
        if seen is None:
            return self._make(secret, name)
        if not seen.made:
            if secret.kind in ("tls", "key"):  # a password and keys for DKIM may be given
                self._foreign[name] = (secret.owner, name)
            return None
        self._foreign.pop(name, None)
        now = datetime.datetime.now(datetime.UTC)
        if secret.kind == "tls" and self._is_due(name, (seen.mark, secret.hosts), now, _LOOK):
            return self._renew(secret, name, now)
        if secret.kind == "dkim" and secret.rotate_days:
            mark, values = self._reader.whole(name)
            # From older values the change of a moment ago would be made once more, with other keys.
            state = (seen.mark, secret.seen, secret.rotate_days)
            if mark == seen.mark and isinstance(values, Mapping) and self._is_due(name, state, now, _LOOK):
                return self._rotate(secret, name, mark, values, now)
        return None

    def _is_due(
        self, name: SecretName, state: object, now: datetime.datetime, every: datetime.timedelta
    ) -> bool:
        known = self._looked.get(name)
        if known and known[0] == state and now - known[1] < every:
            return False
        self._looked[name] = (state, now)
        return True

    def _begin(self, secret: GeneratedSecret, name: SecretName, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._run(secret, name, work))
        self._tasks[name] = task
        task.add_done_callback(lambda task: self._done(name, task))

    def _done(self, name: SecretName, task: asyncio.Task[None]) -> None:
        self.made += 1
        if self._tasks.get(name) is task:
            del self._tasks[name]
        now = time.monotonic()
        if not self._tasks or now - self._told_at > _NEWS_SECONDS:
            self._told_at = now
            self._changed()

    async def _run(self, secret: GeneratedSecret, name: SecretName, work: Coroutine[Any, Any, None]) -> None:
        doing = _DOING[secret.kind]
        try:
            async with self._slots[secret.kind == "dkim"]:
                await work
            self._faults.over(secret.owner, doing)
            self._broken.pop(name, None)
        except Unavailable as error:
            self._log(f"Secret {'/'.join(name)}: not made: {error}")
            self._looked.pop(name, None)
            self._broken[name] = time.monotonic() + self._runtime.timings.retry
        except Foreign as error:
            self._foreign[name] = (secret.owner, error.args[0])
            self._unseen[name] = time.monotonic() + _BROKEN_SECONDS
        except Exception as error:  # it is this object's alone
            self._faults.note(secret.owner, doing, error)
            self._looked.pop(name, None)
            self._broken[name] = time.monotonic() + _BROKEN_SECONDS
        finally:
            work.close()

    async def _make(self, secret: GeneratedSecret, name: SecretName) -> None:
        now = datetime.datetime.now(datetime.UTC)
        type_ = "Opaque"
        if secret.kind == "tls":
            values, type_ = await self._certificate(secret, now), "kubernetes.io/tls"
        elif secret.kind == "dkim":
            values = await asyncio.to_thread(make_dkim_keys, now)
        else:
            values = {secret.kind: generate_password().encode()}
        await self._runtime.create_secret(name, type_, secret.owner.kind, values)
        self._unseen[name] = time.monotonic() + _UNSEEN_SECONDS

    async def _renew(self, secret: GeneratedSecret, name: SecretName, now: datetime.datetime) -> None:
        """A certificate anew that ends soon, lacks a name, or is none."""
        held = await self._runtime.read_secret(name)
        if held is None:
            return
        try:
            if not needs_renewal(held.values["tls.crt"], secret.hosts, now):
                return
        except (KeyError, ValueError):
            self._log(f"Secret {'/'.join(name)}: holds no certificate, and is written anew")
        files = await self._certificate(secret, now)
        await self._runtime.change_secret(name, held.mark, files)

    async def _rotate(
        self,
        secret: GeneratedSecret,
        name: SecretName,
        mark: str,
        values: Mapping[str, bytes],
        now: datetime.datetime,
    ) -> None:
        """Change the keys of a domain, if it is time. Of two operators at once the first one does."""
        assert secret.rotate_days is not None
        changes = await asyncio.to_thread(
            rotated, values, secret.seen, secret.rotate_days, now.date(), make_dkim_keys
        )
        if changes:
            await self._runtime.change_secret(name, mark, changes)
            self._log(f"Secret {'/'.join(name)}: DKIM keys: {', '.join(changes)} changed")

    async def _certificate(self, secret: GeneratedSecret, now: datetime.datetime) -> dict[str, bytes]:
        authority = await self._authority(now)
        leaf = make_certificate(authority, secret.hosts, now)
        return {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}

    async def _authority(self, now: datetime.datetime) -> KeyPair:
        """The own authority."""
        name = self._runtime.authority()
        async with self._authority_lock:
            held = await self._runtime.read_secret(name)
            if held is None:
                pair = make_ca("Mailpods", now)
                values = {"tls.crt": pair.certificate, "tls.key": pair.key}
                await self._runtime.create_secret(name, "kubernetes.io/tls", "Secret", values)
                held = await self._runtime.read_secret(name)
        if held is None:
            raise Unavailable(f"Secret {'/'.join(name)} was taken away")
        if not held.made:
            raise Foreign(name)
        return KeyPair(held.values["tls.crt"], held.values["tls.key"])

    @property
    def failed(self) -> bool:
        """Whether something could not be made, and is to be tried again."""
        return bool(self._broken)

    def verdicts(self) -> dict[ObjectRef, Verdict]:
        """Owner -> what hinders it."""
        return {
            owner: Verdict(
                "SecretForeign",
                f"Secret {'/'.join(foreign)} is not of Mailpods' making and stays as it is: take it away, or "
                "name a certificate of your own in spec.tls.secretName.",
                waits=True,
            )
            for owner, foreign in self._foreign.values()
        }

    async def settle(self, seconds: float) -> None:
        """Wait for what is quick to make, for a while."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks.values():
            task.cancel()


def _keep(known: dict[SecretName, Any], names: Collection[SecretName]) -> None:
    for name in known.keys() - names:
        del known[name]
