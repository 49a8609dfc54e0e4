"""Reads the shard files, again when they change, and never trades a good version for a bad one."""

from pathlib import Path

from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Bucket, Domain, DomainName
from mailpods.directory.shards import MalformedShard, content_hash, decode, file_name

_Stamp = tuple[int, int, int]  # inode, mtime in ns, size: a rename or a symlink swap always changes the inode


class DirectoryReader:
    """The directory as last read from `path`, a folder of `buckets` shard files.

    A file that is missing, unreadable or malformed leaves its bucket as it was and shows in `problems`.
    """

    def __init__(self, path: Path, buckets: int) -> None:
        self._files = [path / file_name(n) for n in range(buckets)]
        self._stamps: list[_Stamp | None] = [None] * buckets
        self._buckets = [Bucket()] * buckets
        self.hashes: dict[str, str] = {}  # file name -> hash of the version in use
        self.problems: dict[str, str] = {}  # file name -> why its newest version is not in use

    def refresh(self) -> bool:
        """Read the files that changed. Returns whether any bucket in use changed. Never raises."""
        changed = False
        for n, file in enumerate(self._files):
            try:
                stat = file.stat()
                stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if stamp == self._stamps[n]:
                    continue
                data = file.read_bytes()
                digest = content_hash(data)
                if digest != self.hashes.get(file.name):
                    self._buckets[n] = decode(data)
                    self.hashes[file.name] = digest
                    changed = True
                self.problems.pop(file.name, None)
                self._stamps[n] = stamp
            except MalformedShard as error:
                self.problems[file.name] = str(error)
                self._stamps[n] = stamp  # not parsed again until it changes
            except OSError as error:
                self.problems[file.name] = f"cannot be read: {error.strerror}"
                self._stamps[n] = None
        return changed

    # A few dozen dictionaries at most: looking through them costs less than a copy of all at each change.
    def domain(self, name: DomainName) -> Domain | None:
        """The domain, or None if mail for it is not taken here."""
        return next((b.domains[name] for b in self._buckets if name in b.domains), None)

    def address(self, address: Address) -> AddressEntry | None:
        """Where the address leads, or None if it is unknown."""
        return next((b.addresses[address] for b in self._buckets if address in b.addresses), None)

    def account(self, account: AccountId) -> Account | None:
        """The account, or None if it is unknown."""
        return next((b.accounts[account] for b in self._buckets if account in b.accounts), None)
