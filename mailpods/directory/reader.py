"""Reads the files, again when they change, and never trades a good version for a bad one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Bucket,
    Credentials,
    Domain,
    DomainName,
    Server,
    StoreSettings,
)
from mailpods.directory.shards import (
    SERVER_FILE,
    STORE_FILE,
    MalformedShard,
    bucket_of,
    content_hash,
    decode,
    decode_credentials,
    decode_server,
    decode_store,
    file_name,
)

_Stamp = tuple[int, int, int]  # inode, mtime in ns, size: a rename or a symlink swap changes the inode
T = TypeVar("T")


class WatchedFile(Generic[T]):
    """The last good value of one file. A file that is missing, unreadable or malformed changes nothing."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._parse = parse
        self._stamp: _Stamp | None = None
        self.value: T | None = None
        self.hash: str | None = None  # of the version in use
        self.problem: str | None = None  # why the newest version is not in use

    def refresh(self) -> bool:
        """Read the file if it changed. Returns whether the value in use changed. Never raises."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp == self._stamp:
                return False
            data = self.path.read_bytes()
        except OSError as error:
            self._stamp = None
            self.problem = f"cannot be read: {error.strerror}"
            return False
        self._stamp = stamp  # also when malformed: not parsed again until it changes
        digest = content_hash(data)
        if digest == self.hash:
            self.problem = None
            return False
        try:
            self.value = self._parse(data)
        except MalformedShard as error:
            self.problem = str(error)
            return False
        self.hash, self.problem = digest, None
        return True


class _Watcher:
    """What both readers share: refresh all files, and tell hashes and problems by file name."""

    files: list[WatchedFile[Any]]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: int | None = None  # when a name in it had last changed before refresh() looked

    def stirred(self) -> bool:
        """Whether a name in the folder changed since refresh() last looked: one look instead of one a file.

        A file that is written in place, or in the same tick of the clock, only refresh() sees. Never raises.
        """
        return self._names != _changed_at(self._folder)

    def refresh(self) -> bool:
        """Read the files that changed. Returns whether anything in use changed. Never raises."""
        self._names = _changed_at(self._folder)
        return any([file.refresh() for file in self.files])

    @property
    def hashes(self) -> dict[str, str]:
        """File name -> SHA-256 of the version in use: what a pod acknowledges."""
        return {file.path.name: file.hash for file in self.files if file.hash}

    @property
    def problems(self) -> dict[str, str]:
        """File name -> why its newest version is not in use."""
        return {file.path.name: file.problem for file in self.files if file.problem}


def _changed_at(folder: Path) -> int:
    """In ns; 0 while there is no folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


class NotLoaded(LookupError):
    """The file that would know has no good version yet: what is asked for may exist."""


class DirectoryReader(_Watcher):
    """The directory in the folder `path`: `server.json` and `buckets` bucket files."""

    def __init__(self, path: Path, buckets: int) -> None:
        super().__init__(path)
        self._server = WatchedFile(path / SERVER_FILE, decode_server)
        self._buckets = [WatchedFile(path / file_name(n), decode) for n in range(buckets)]
        self.files = [self._server, *self._buckets]
        self._loaded: list[Bucket] = []

    def refresh(self) -> bool:
        """As above; the tables are swapped in one assignment, so a lookup sees old or new, never half."""
        changed = super().refresh()
        if changed:
            self._loaded = [file.value for file in self._buckets if file.value]
        return changed

    @property
    def server(self) -> Server | None:
        """The installation's settings, or None before the first good `server.json`."""
        return self._server.value

    # A few dozen dictionaries at most: looking through them costs less than a merged copy at each change.
    def domain(self, name: DomainName) -> Domain | None:
        """The domain, or None if mail for it is not taken here. Raises NotLoaded, as do the others."""
        found = next((b.domains[name] for b in self._loaded if name in b.domains), None)
        if found is None and not self.is_complete:
            self._require(name)
        return found

    @property
    def first_number(self) -> int | None:
        """The lowest number of a domain: its administrator is the server's."""
        return min((d.number for b in self._loaded for d in b.domains.values()), default=None)

    def address(self, address: Address) -> AddressEntry | None:
        """Where the address leads, or None if it is unknown."""
        found = next((b.addresses[address] for b in self._loaded if address in b.addresses), None)
        if found is None and not self.is_complete:
            self._require(address)
        return found

    def account(self, account: AccountId) -> Account | None:
        """The account, or None if it is unknown."""
        found = next((b.accounts[account] for b in self._loaded if account in b.accounts), None)
        if found is None and not self.is_complete:
            self._require(account)
        return found

    @property
    def is_complete(self) -> bool:
        """Whether every file has a good version: only then what is not found does not exist."""
        return len(self._loaded) == len(self._buckets) and self._server.value is not None

    def _require(self, key: str) -> None:
        if self._buckets[bucket_of(key, len(self._buckets))].value is None:
            raise NotLoaded(f"what the directory says of {key} is not loaded")


class CredentialsReader(_Watcher):
    """The credentials in the folder `path`: `store.json` and `buckets` bucket files."""

    def __init__(self, path: Path, buckets: int) -> None:
        super().__init__(path)
        self._settings = WatchedFile(path / STORE_FILE, decode_store)
        self._buckets = [WatchedFile(path / file_name(n), decode_credentials) for n in range(buckets)]
        self.files = [self._settings, *self._buckets]

    @property
    def settings(self) -> StoreSettings | None:
        """The store's settings, or None before the first good `store.json`."""
        return self._settings.value

    @property
    def complete(self) -> bool:
        """Whether every file has a good version: nothing may be called removed before that."""
        return all(file.value is not None for file in self.files)

    def credentials(self) -> list[Credentials]:
        """The loaded files; accounts are spread over them, each in exactly one."""
        return [file.value for file in self._buckets if file.value]
