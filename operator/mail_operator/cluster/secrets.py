"""Secrets by name: read once for each version, hashed once, and never cached longer than that takes.

A password is hashed off the loop. Until it is, what the account logged in with before stays valid.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp

from mail_operator.cluster.cached import CachedSecret
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import path
from mail_operator.compiler.snapshot import PasswordHash, SecretName, SecretProblem
from mail_operator.engine.secrets import hash_password, password_in
from mail_operator.kinds.meta import ObjectRef

_AT_ONCE = 16
_RETRY_SECONDS = 5.0  # after a Secret that could not be read: it may be a matter of permissions
_HASHING = SecretProblem("Hashing", "The password is being hashed; this takes a moment.")

Contents = Mapping[str, bytes]


class Secrets:
    """`look()` at what there is; `passwords` and `contents` are what compile() sees of it."""

    def __init__(self, client: ApiClient, changed: Callable[[], None], log: Callable[[str], None]) -> None:
        self._client, self._changed, self._log = client, changed, log
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hash")
        self._tasks: dict[tuple[SecretName, bool], tuple[str, asyncio.Task[None]]] = {}
        self._found: dict[SecretName, PasswordHash | SecretProblem] = {}
        self._marks: dict[tuple[SecretName, bool], str] = {}  # (name, whole) -> version that was read
        self._contents: dict[SecretName, Contents | SecretProblem] = {}

    def recover(self, known: Mapping[SecretName, PasswordHash]) -> None:
        """What an operator before this one made: nothing of it is read or hashed again."""
        for name, found in known.items():
            self._found[name] = found
            self._marks[name, False] = found.version

    def look(
        self,
        hashes: Collection[SecretName],
        wholes: Collection[SecretName],
        there: Mapping[SecretName, CachedSecret],
    ) -> tuple[dict[SecretName, PasswordHash | SecretProblem], dict[SecretName, Contents | SecretProblem]]:
        """What is known of these Secrets now: their password hashes, and of others the whole content.

        What is not known in its newest version is fetched; `changed` is called when it is there.
        """
        for whole, names in ((False, hashes), (True, wholes)):
            for name in names:
                self.renew(name, there.get(name), whole)
        for name in self._found.keys() - set(hashes):
            del self._found[name]
            self._marks.pop((name, False), None)
        passwords = {name: self._found.get(name, _HASHING) for name in hashes if name in there}
        contents = {n: self._contents[n] for n in wholes if n in there and n in self._contents}
        return passwords, contents

    def whole(self, name: SecretName) -> tuple[str, Contents | SecretProblem | None]:
        """The newest content that was read, and of which version it is."""
        return self._marks.get((name, True), ""), self._contents.get(name)

    async def settle(self, seconds: float) -> None:
        """Wait until contents that `look()` began to fetch are there, for a while: some may never be."""
        running = [task for (_, whole), (_, task) in self._tasks.items() if whole]
        if running:
            await asyncio.wait(running, timeout=seconds)

    def renew(self, name: SecretName, cached: CachedSecret | None, whole: bool = False) -> None:
        """Fetch the Secret, if its newest version is not known."""
        if cached is not None and self._marks.get((name, whole)) != cached.mark:
            self._fetch(name, whole, cached.mark)

    def _fetch(self, name: SecretName, whole: bool, mark: str) -> None:
        running = self._tasks.get((name, whole))
        if running and running[0] == mark:
            return
        if running:
            running[1].cancel()
        work: Coroutine[Any, Any, None] = self._read(name, whole)
        task = asyncio.create_task(work)
        self._tasks[name, whole] = (mark, task)
        task.add_done_callback(lambda task: self._done((name, whole), task))

    def _done(self, key: tuple[SecretName, bool], task: asyncio.Task[None]) -> None:
        if self._tasks.get(key, ("", None))[1] is task:
            del self._tasks[key]
        if not task.cancelled():
            if error := task.exception():
                self._log(f"Secret {'/'.join(key[0])}: {error!r}")  # never its content
            self._changed()

    async def _read(self, name: SecretName, whole: bool) -> None:
        failed = await self._read_once(name, whole)
        if failed:
            self._changed()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read_once(self, name: SecretName, whole: bool) -> bool:
        """Returns whether it must be tried again."""
        async with self._slots:
            values: dict[str, bytes] | SecretProblem
            try:
                secret = await self._client.get(path(ObjectRef("Secret", *name)))
                meta = secret["metadata"]
                mark = f"{meta['uid']}/{meta['resourceVersion']}"
                values = {k: base64.b64decode(v) for k, v in secret.get("data", {}).items()}
            except ApiError as error:
                if error.code == 404:
                    return False  # the watch will say so
                mark, values = (
                    "",
                    SecretProblem("SecretUnreadable", f"Secret {'/'.join(name)}: {error.reason}."),
                )
            except (aiohttp.ClientError, TimeoutError, binascii.Error) as error:
                mark, values = "", SecretProblem("SecretUnreadable", f"Secret {'/'.join(name)}: {error!r}.")
            if whole:
                self._contents[name] = values
            else:
                self._found[name] = await self._password(name, values, mark)
            self._marks[name, whole] = mark
            return not mark

    async def _password(
        self, name: SecretName, values: dict[str, bytes] | SecretProblem, mark: str
    ) -> PasswordHash | SecretProblem:
        password = values if isinstance(values, SecretProblem) else password_in("/".join(name), values)
        if isinstance(password, SecretProblem):
            before = self._found.get(name)
            return password.keeping(before.kept if isinstance(before, SecretProblem) else before)
        if isinstance(password, PasswordHash):
            return PasswordHash(password.hash, mark)
        loop = asyncio.get_running_loop()
        hashed = await loop.run_in_executor(self._pool, hash_password, password, "/".join((*name, mark)))
        return PasswordHash(hashed, mark)
