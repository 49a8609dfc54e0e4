"""How many connections a client has, over all workers: each counts in a row of its own of memory that they
share, so that nothing is locked."""

import mmap
import zlib

SLOTS = 1 << 18  # clients that share a slot by chance share its count; two bytes each, touched ones only


class ClientCounts:
    """Made before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._table = memoryview(mmap.mmap(-1, workers * SLOTS * 2)).cast("H")
        self._workers = workers
        self._row = 0

    def take_row(self, worker: int) -> None:
        """Count for this worker from now on."""
        self._row = worker * SLOTS

    def clear(self, worker: int) -> None:
        """A worker is gone, and its connections with it."""
        self._table[worker * SLOTS : (worker + 1) * SLOTS] = memoryview(bytes(SLOTS * 2)).cast("H")

    def enter(self, ip: str) -> int:
        """Count a connection. Returns how many this client has now, this one included."""
        slot = zlib.crc32(ip.encode()) % SLOTS
        if self._table[self._row + slot] < 0xFFFF:
            self._table[self._row + slot] += 1
        return sum(self._table[worker * SLOTS + slot] for worker in range(self._workers))

    def leave(self, ip: str) -> None:
        """The connection is over."""
        slot = self._row + zlib.crc32(ip.encode()) % SLOTS
        if self._table[slot]:
            self._table[slot] -= 1
