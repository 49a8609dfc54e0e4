"""How many connections a client has, and how many it opened within a minute, over all workers: each counts in
rows of its own of memory that they share, so that nothing is locked."""

import mmap
import time
import zlib

SLOTS = 1 << 18  # clients that share a slot by chance share its count; two bytes each, touched ones only


class ConnectionLimits:
    """Made before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._table = _shared(workers)
        self._minutes = _shared(workers)  # that the two counts of a slot are of
        self._arrivals = (_shared(workers), _shared(workers))  # within even minutes, within odd ones
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

    def arrive(self, ip: str) -> float:
        """Count a connection by its time. Returns how many this client opened within the last minute.

        Of the minute before this one, the part counts that is not over yet: as if it had come evenly.
        """
        now = time.time() / 60
        minute, slot = int(now) & 0xFFFF, zlib.crc32(ip.encode()) % SLOTS
        this, before = self._arrivals[minute % 2], self._arrivals[1 - minute % 2]
        own = self._row + slot
        if (passed := (minute - self._minutes[own]) & 0xFFFF) > 0:
            this[own] = 0
            if passed > 1:
                before[own] = 0
            self._minutes[own] = minute
        if this[own] < 0xFFFF:
            this[own] += 1
        found = 0.0
        for each in (worker * SLOTS + slot for worker in range(self._workers)):
            age = (minute - self._minutes[each]) & 0xFFFF
            if age == 0:
                found += this[each] + before[each] * (1 - now % 1)
            elif age == 1:
                found += before[each] * (1 - now % 1)
        return found

    def leave(self, ip: str) -> None:
        """The connection is over."""
        slot = self._row + zlib.crc32(ip.encode()) % SLOTS
        if self._table[slot]:
            self._table[slot] -= 1


def _shared(workers: int) -> "memoryview[int]":
    """A number below 2**16 for each slot of each worker."""
    return memoryview(mmap.mmap(-1, workers * SLOTS * 2)).cast("H")
