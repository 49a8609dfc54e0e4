"""Large bodies lie beside the database, each in a file named by its message."""

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mailpods.spool.message import MessageId

INLINE_BYTES = 128 * 1024  # bodies up to this lie in the database: one sync instead of three


class SyncFailed(Exception):
    """Nobody knows what is on disk (fsync(2)): only a new start reads it again."""


class BodyMissing(Exception):
    """A message is there, and the file with its body is not."""


class Bodies:
    """The folder of such files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, bodies: Sequence[tuple[MessageId, bytes]]) -> None:
        """Write the large ones of them, synced together with their folder. Raises OSError, SyncFailed."""
        large = [(id, body) for id, body in bodies if len(body) > INLINE_BYTES]
        if not large:
            return
        with ExitStack() as opened:
            files = [opened.enter_context(open(self._folder / id, "xb", buffering=0)) for id, _ in large]
            for (_, body), file in zip(large, files, strict=True):
                rest = memoryview(body)
                while rest:
                    rest = rest[file.write(rest) :]
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for file in files:  # when all are written: the first sync takes most of the others with it
                    os.fdatasync(file.fileno())
                os.fsync(folder)
            except OSError as error:
                raise SyncFailed(str(error)) from error
            finally:
                os.close(folder)

    def read(self, id: MessageId) -> bytes:
        """Raises BodyMissing, OSError."""
        try:
            return (self._folder / id).read_bytes()
        except FileNotFoundError as error:
            raise BodyMissing(f"the file of message {id} is missing") from error

    def remove(self, ids: Iterable[str]) -> None:
        """Those that are not there, or cannot be removed now, are left to the next start."""
        for id in ids:
            try:
                (self._folder / id).unlink(missing_ok=True)
            except OSError:
                continue

    def tidy(self, named: set[str]) -> None:
        """Remove what no message names: it was never acknowledged, or is done."""
        self.remove(file.name for file in self._folder.iterdir() if file.name not in named)
