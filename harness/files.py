"""Writing files so that nobody ever reads half of one."""

from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file beside its place and move it there; what a link points to is replaced, not it.

    A device or a pipe is written to as it is: moved over, it would be gone.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    place = path.resolve()
    if place.exists() and not place.is_file():
        with place.open("wb") as file:
            file.writelines(parts)
        return
    partial = place.with_name(place.name + ".part")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
