"""The file of a service's journal: locked, checked, shortened, and never left half-written."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.errors import InputError
from harness.pipeline.journal import Header, Journal
from harness.pipeline.service import keeping
from harness.pipeline.service.keeping import Keeper, header_of

HEADER = header_of("router", {}, None)


def test_another_service_cannot_go_on(tmp_path: Path) -> None:
    """With another router, other prices or another prompt one line says what differs."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    before = path.read_bytes()
    for field in ("router", "prices", "instructions"):
        with pytest.raises(InputError, match=rf"another service \({field} .+ there, x here") as e:
            Keeper.take_up(path, replace(HEADER, **{field: "x"}))
        assert "\n" not in str(e.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "data", [b"notes", b"notes\n", b'{"journal":1,"version":"1"}\n', b"\0\xff"]
)
def test_another_file_is_left_alone(tmp_path: Path, data: bytes) -> None:
    """A file that is no journal of a service is told in one line, and is as it was."""
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"notes.txt: is no journal of a service"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    """What is broken before the last line was not torn off: the file is left as it was."""
    path = tmp_path / "j"
    keeper = Keeper.take_up(path, HEADER)
    keeper.asked("k", "u", "d")
    keeper.close()
    data = path.read_bytes().replace(b'"asked"', b'"askew"')
    path.write_bytes(data)
    with pytest.raises(InputError, match="j: line 3 is damaged"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == data


def test_two_services_do_not_write_one_journal(tmp_path: Path) -> None:
    """Whoever comes second is told in one line, also when the file was shortened."""
    path = tmp_path / "j"
    first = Keeper.take_up(path, HEADER)
    for _ in range(2):
        with pytest.raises(InputError, match="another process is writing it"):
            Keeper.take_up(path, HEADER)
    first.asked("k", "u", "d")
    first.close()
    second = Keeper.take_up(path, HEADER)
    assert list(second.story.asked) == ["k"]
    second.close()


def test_whoever_waited_with_the_old_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that lost its name between being opened and being locked is no journal any more."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    stale = path.open("ab", buffering=0)
    Keeper.take_up(path, HEADER).close()
    monkeypatch.setattr(keeping, "locked", lambda _: stale)
    with pytest.raises(InputError, match="another process is writing it"):
        Keeper.take_up(path, HEADER)
    stale.close()


def test_a_journal_is_a_file(tmp_path: Path) -> None:
    """A folder, a device and a place in no folder are told in one line."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "j", Path("/dev/null")):
        with pytest.raises(InputError):
            Keeper.take_up(path, HEADER)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Where a journal is reached by a link, what it points to is shortened, and not it."""
    (tmp_path / "j").symlink_to(tmp_path / "real")
    for _ in range(2):
        keeper = Keeper.take_up(tmp_path / "j", HEADER)
        keeper.asked("k", "u", "d")
        keeper.close()
    assert (tmp_path / "j").is_symlink()
    assert (tmp_path / "real").read_bytes().count(b"asked") == 2


def test_a_full_disk_leaves_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it cannot be shortened for want of room it is told, and is as it was."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="j: cannot be written: No space left on device"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["j"]


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """A disk that took a part of a line and then no more leaves a journal that can be read."""

    class Full:
        def __init__(self, file: Any) -> None:
            self._file, self.room = file, 10

        def write(self, data: bytes) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            taken, self.room = self._file.write(data[: self.room]), 0
            return int(taken)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    keeper = Keeper.take_up(tmp_path / "j", HEADER)
    file = keeper._file
    keeper._file = Full(file)  # type: ignore[assignment]
    with pytest.raises(InputError, match="No space left"):
        keeper.asked("k1", "u", "d")
    keeper._file = file
    keeper.asked("k2", "u", "d")
    keeper.close()
    again = Keeper.take_up(tmp_path / "j", HEADER)
    again.close()
    assert list(again.story.asked) == ["k2"]


def test_the_first_line_tells_it_from_a_jobs_journal(tmp_path: Path) -> None:
    """A batch run does not go on with a service's journal either."""
    Keeper.take_up(tmp_path / "j", HEADER).close()
    job = Header(version="1", engine="live", variant="a", seed=1, scenario="s", corpus="c")
    with pytest.raises(InputError):
        Journal.resume(tmp_path / "j", job)
