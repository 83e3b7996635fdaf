"""Files are written whole, and never in the place of what is no file."""

import os
from pathlib import Path

import pytest

from harness.files import write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new content is there, and nothing beside it."""
    place = tmp_path / "run.json"
    place.write_bytes(b"old")
    write_whole(place, [b"ne", b"w"])
    assert place.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["run.json"]  # noqa: PTH208 - names are enough


def test_what_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    """Neither half a file nor a leftover."""

    def parts() -> list[bytes]:
        raise OSError(28, "No space left on device")

    place = tmp_path / "run.json"
    place.write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        write_whole(place, (part for _ in range(1) for part in parts()))
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["run.json"]  # noqa: PTH208


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points to is what was meant."""
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole(link, [b"new"])
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    """A pipe or a device is written into: moved over, it would be gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, [b"new"])
        assert os.read(reader, 10) == b"new"
        assert pipe.is_fifo()
    finally:
        os.close(reader)
