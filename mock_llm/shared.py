"""What several processes count together, in memory that they share.

Theory of operation. The memory is a file without a name, handed on as a descriptor, so that it is
gone when its last process is. A key's count is an entry of the one set that its hash names; the
entries of a set stand in order of use, and a new key pushes the last one out. A set is locked while
one entry moves to its front: a lock of the file costs two system calls (.7 µs in all, measured),
and the kernel releases it when its holder dies. A process killed in the middle of the move can
spoil the counts of sixteen keys, and nothing else.
"""

import mmap
import os
from fcntl import LOCK_EX, LOCK_UN, lockf
from hashlib import blake2b

from mock_llm.counts import Memory

_NAME_BYTES, _COUNT_BYTES, _WAYS = 12, 4, 16
_ENTRY_BYTES = _NAME_BYTES + _COUNT_BYTES
_SET_BYTES = _WAYS * _ENTRY_BYTES
_SETS = 1 << 15
"""Room for 524,288 keys: of 200,000 at random one in 10,000 sets is too small."""
_TABLE_BYTES = _SETS * _SET_BYTES
_HEAD_BYTES = mmap.PAGESIZE
_NETWORK_SETS = 64
_BYTES = _HEAD_BYTES + 2 * _TABLE_BYTES + _NETWORK_SETS * _SET_BYTES


class SharedCounts:
    """As `counts.Counts`, for all processes that have the memory.

    Args:
        file: descriptor of the memory.
        memory: it.
        start: where the table begins.
        sets: of how many sets it is made.
    """

    def __init__(self, file: int, memory: mmap.mmap, start: int, sets: int = _SETS) -> None:
        self._file, self._memory, self._start, self._sets = file, memory, start, sets

    def next(self, key: str) -> int:
        """Return how often the key was counted before this call, and count it."""
        raw = key.encode("utf-8", "surrogatepass")
        name = blake2b(raw, digest_size=_NAME_BYTES).digest()
        start = self._start + int.from_bytes(name[:4], "big") % self._sets * _SET_BYTES
        memory, end = self._memory, start + _SET_BYTES
        lockf(self._file, LOCK_EX, 1, start)
        try:
            entries = memory[start:end]
            count, rest = _taken(entries, name)
            memory[start:end] = name + (count + 1).to_bytes(_COUNT_BYTES, "big") + rest
        finally:
            lockf(self._file, LOCK_UN, 1, start)
        return count

    def clear(self) -> None:
        """Forget all keys."""
        self._memory[self._start : self._start + self._sets * _SET_BYTES] = bytes(
            self._sets * _SET_BYTES
        )


def _taken(entries: bytes, name: bytes) -> tuple[int, bytes]:
    """A name's count, 0 if it is new, and the entries that stay behind it."""
    at = entries.find(name)
    while at % _ENTRY_BYTES and at >= 0:  # looks like it, across two entries
        at = entries.find(name, at + 1)
    if at < 0:
        return 0, entries[:-_ENTRY_BYTES]
    after = at + _ENTRY_BYTES
    count = int.from_bytes(entries[at + _NAME_BYTES : after], "big")
    return count, entries[:at] + entries[after:]


class SharedMemory(Memory):
    """A provider's memory in the memory of several processes.

    Args:
        file: descriptor of one that there is already; None makes a new one.

    Attributes:
        file: its descriptor, to be handed to another process.
    """

    def __init__(self, file: int | None = None) -> None:
        if file is None:
            file = os.memfd_create("mock_llm")
            os.ftruncate(file, _BYTES)
        memory = mmap.mmap(file, _BYTES)
        self.file = file
        self.arrived = SharedCounts(file, memory, _HEAD_BYTES)
        self.admitted = SharedCounts(file, memory, _HEAD_BYTES + _TABLE_BYTES)
        last = _HEAD_BYTES + 2 * _TABLE_BYTES
        self.network = SharedCounts(file, memory, last, _NETWORK_SETS)
        # A new memory is all zeros, and a machine's clock is past 0 when a process runs.
        self._began = memoryview(memory)[:8].cast("d")

    def clear(self) -> None:
        """See `counts.Memory.clear`."""
        self.arrived.clear()
        self.admitted.clear()
        self.network.clear()
        self._began[0] = 0.0

    def began(self, now: float) -> float:
        """See `counts.Memory.began`; of all processes, the first one's `now` counts."""
        if not self._began[0]:
            lockf(self.file, LOCK_EX, 1)
            self._began[0] = self._began[0] or now
            lockf(self.file, LOCK_UN, 1)
        return self._began[0]
