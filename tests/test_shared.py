"""Counts in shared memory: as exact as a process's own, whoever counts and whoever dies."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mock_llm.counts import Counts
from mock_llm.shared import SharedCounts, SharedMemory

ROOT = Path(__file__).parent.parent
OPEN = "import sys; from mock_llm.shared import SharedMemory; m = SharedMemory(int(sys.argv[1]));"
KEYS = st.lists(st.text(st.characters(codec=None), max_size=3) | st.sampled_from("abc"))


def other(code: str, memory: SharedMemory) -> subprocess.Popen[str]:
    """Another process with the memory as `m`."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN + code, str(memory.file)],
        cwd=ROOT,
        pass_fds=[memory.file],
        stdout=subprocess.PIPE,
        text=True,
    )


@settings(deadline=None)  # the machine may have other things to do
@given(KEYS)
def test_counts_are_those_of_one_process(keys: list[str]) -> None:
    """Two views of one memory, taken in turn, count as `Counts` does, lone surrogates included."""
    memory, own = SharedMemory(), Counts()
    views = [memory, SharedMemory(memory.file)]
    shared = [views[n % 2].admitted.next(key) for n, key in enumerate(keys)]
    assert shared == [own.next(key) for key in keys]
    assert [memory.arrived.next(key) for key in set(keys)] == [0] * len(set(keys))
    os.close(memory.file)


def test_the_least_recently_used_of_a_set_is_forgotten() -> None:
    """A full set drops the key that was not counted for longest, and no other."""
    memory = SharedMemory()
    counts = SharedCounts(memory.file, mmap.mmap(memory.file, 4096), 0, sets=1)
    for key in "abcdefghijklmnop":
        assert counts.next(key) == 0
    assert counts.next("a") == 1
    assert counts.next("new") == 0
    assert [counts.next(key) for key in ("a", "c", "p", "new")] == [2, 1, 1, 1]
    assert counts.next("b") == 0
    os.close(memory.file)


def test_memory_stays_as_small_as_it_is_made() -> None:
    """However many keys come, the memory has the size it began with, and remembers 200,000."""
    memory = SharedMemory()
    size = os.fstat(memory.file).st_size
    for number in range(200_000):
        memory.admitted.next(str(number))
    again = sum(memory.admitted.next(str(number)) == 1 for number in range(0, 200_000, 10))
    assert os.fstat(memory.file).st_size == size < 17_000_000
    assert again > 0.999 * 20_000
    os.close(memory.file)


def test_the_first_admission_of_all_begins_the_run() -> None:
    """Whoever is first sets the origin of time, for all and for good."""
    memory = SharedMemory()
    views = [memory, SharedMemory(memory.file)]
    assert [views[1].began(5.0), views[0].began(4.0), views[1].began(6.0)] == [5.0, 5.0, 5.0]
    os.close(memory.file)


def test_no_count_is_lost_or_given_twice() -> None:
    """Two processes that count one key at the same time get every number once between them."""
    memory = SharedMemory()
    count = "print(*[m.admitted.next('key') for _ in range(20000)])"
    with other(count, memory) as one, other(count, memory) as two:
        said = [process.communicate()[0].split() for process in (one, two)]
    assert sorted(map(int, said[0] + said[1])) == list(range(40_000))
    os.close(memory.file)


def test_a_killed_holder_of_a_lock_holds_nobody_up() -> None:
    """A process that dies with every set locked leaves them free."""
    memory = SharedMemory()
    code = "import fcntl, sys, time; fcntl.lockf(m.file, fcntl.LOCK_EX); print('locked'); "
    code += "sys.stdout.flush(); sys.stdin.read()"
    with other(code, memory) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with other("print(m.admitted.next('key'))", memory) as waiting:
            holder.kill()
            assert waiting.communicate()[0] == "0\n"
    os.close(memory.file)
