"""Secrets by name: read once for each version, hashed once, and never kept longer than somebody names them.

A password is hashed off the loop. Until it is, what the account logged in with before stays valid.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from mail_operator.compiler.snapshot import PasswordHash, SecretName, SecretProblem
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.runtime import ObservedSecret, Runtime, Unavailable
from mail_operator.engine.secrets import hash_password, password_in
from mail_operator.kinds.meta import ObjectRef

_AT_ONCE = 16
_RETRY_SECONDS = 5.0  # after a Secret that could not be read: it may be a matter of permissions
_HASHING = SecretProblem("Hashing", "The password is being hashed; this takes a moment.")

_READING = "reading it"

Contents = Mapping[str, bytes]
_Key = tuple[SecretName, bool]  # whether its whole content is wanted, or the hash of its password


class SecretReader:
    """`look()` at what there is; what it returns is what compile() sees of it."""

    def __init__(self, runtime: Runtime, changed: Callable[[], None], faults: FaultLog) -> None:
        self._runtime, self._changed, self._faults = runtime, changed, faults
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hash")
        self._tasks: dict[_Key, tuple[str, asyncio.Task[None]]] = {}
        self._found: dict[SecretName, PasswordHash | SecretProblem] = {}
        self._before: dict[SecretName, PasswordHash] = {}  # of a former run, made of an older version
        self._marks: dict[_Key, str] = {}  # the version that was read
        self._contents: dict[SecretName, Contents | SecretProblem] = {}
        self.reads = 0  # how many ended

    def recover(
        self, known: Mapping[SecretName, PasswordHash], there: Mapping[SecretName, ObservedSecret]
    ) -> None:
        """What a former run made: nothing of it is read or hashed again.

        Of an older version it is dropped, but for when the newest is of no use: then what was before stays.
        """
        for name, found in known.items():
            if (seen := there.get(name)) and found.version == seen.mark:
                self._found[name] = found
                self._marks[name, False] = found.version
            elif seen:
                self._before[name] = found

    def look(
        self,
        hashes: Collection[SecretName],
        wholes: Collection[SecretName],
        there: Mapping[SecretName, ObservedSecret],
        forget: bool = True,
    ) -> tuple[dict[SecretName, PasswordHash | SecretProblem], dict[SecretName, Contents | SecretProblem]]:
        """What is known of these Secrets now: their password hashes, and of others the whole content.

        What is not known in its newest version is fetched; `changed` is called when it is there. What is of
        others is forgotten, unless it is not known yet which those are: it may be a private key.
        """
        for whole, names in ((False, hashes), (True, wholes)):
            for name in names:
                self.renew(name, there.get(name), whole)
        if forget:
            self._forget(hashes, wholes)
        passwords = {name: self._found.get(name, _HASHING) for name in hashes if name in there}
        contents = {n: self._contents[n] for n in wholes if n in there and n in self._contents}
        return passwords, contents

    def _forget(self, hashes: Collection[SecretName], wholes: Collection[SecretName]) -> None:
        for name in self._found.keys() - set(hashes):
            del self._found[name]
        self._before = {name: before for name, before in self._before.items() if name in hashes}
        for name in self._contents.keys() - set(wholes):
            del self._contents[name]
        wanted = {*((name, False) for name in hashes), *((name, True) for name in wholes)}
        for key in self._marks.keys() - wanted:
            del self._marks[key]
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key)[1].cancel()

    def whole(self, name: SecretName) -> tuple[str, Contents | SecretProblem | None]:
        """The newest content that was read, and of which version it is."""
        return self._marks.get((name, True), ""), self._contents.get(name)

    async def settle(self, seconds: float) -> None:
        """Wait until what `look()` began to fetch is there, for a while: some may never be."""
        if running := [task for _, task in self._tasks.values()]:
            await asyncio.wait(running, timeout=seconds)

    def renew(self, name: SecretName, seen: ObservedSecret | None, whole: bool = False) -> None:
        """Fetch the Secret, if its newest version is not known."""
        if seen is None or self._marks.get((name, whole)) == seen.mark:
            return
        running = self._tasks.get((name, whole))
        if running and running[0] == seen.mark:
            return
        if running:
            running[1].cancel()
        task = asyncio.create_task(self._read(name, whole))
        self._tasks[name, whole] = (seen.mark, task)
        task.add_done_callback(lambda task: self._done((name, whole), task))

    def _done(self, key: _Key, task: asyncio.Task[None]) -> None:
        self.reads += 1
        if self._tasks.get(key, ("", None))[1] is task:
            del self._tasks[key]
        if not task.cancelled():
            self._changed()

    async def _read(self, name: SecretName, whole: bool) -> None:
        of = ObjectRef("Secret", *name)
        try:
            failed = await self._read_once(name, whole)
            self._faults.over(of, _READING)
        except Exception as error:  # it is this Secret's alone, and what was read of it before stays
            self._faults.note(of, _READING, error)
            failed = True
        if failed:
            self._changed()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read_once(self, name: SecretName, whole: bool) -> bool:
        """Returns whether it must be tried again."""
        async with self._slots:
            values: Contents | SecretProblem
            mark = ""
            try:
                found = await self._runtime.read_secret(name)
                if found is None:
                    return False  # the watch will say so
                mark, values = found.mark, found.values
            except Unavailable as error:
                values = SecretProblem("SecretUnreadable", f"Secret {'/'.join(name)}: {error}.")
        if whole:
            self._contents[name] = values
        else:
            self._found[name] = await self._password(name, values, mark)
        self._marks[name, whole] = mark
        return not mark

    async def _password(
        self, name: SecretName, values: Contents | SecretProblem, mark: str
    ) -> PasswordHash | SecretProblem:
        password = values if isinstance(values, SecretProblem) else password_in("/".join(name), values)
        if isinstance(password, SecretProblem):
            before = self._found.get(name, self._before.get(name))
            return password.keeping(before.kept if isinstance(before, SecretProblem) else before)
        if isinstance(password, PasswordHash):
            return PasswordHash(password.hash, mark)
        loop = asyncio.get_running_loop()
        hashed = await loop.run_in_executor(self._pool, hash_password, password, "/".join((*name, mark)))
        return PasswordHash(hashed, mark)

    def close(self) -> None:
        """End what is under way."""
        for _, task in self._tasks.values():
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
