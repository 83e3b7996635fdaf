"""Whether results will have a place: asked before a long run, not after it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import InputError


def check_folder(option: str, folder: Path) -> None:
    """A folder that is there, or that can be made; nothing that stays is made yet.

    Raises:
        InputError: a file is in the way, or it may not be written.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{option} {folder}: {place} is no folder: name another")
    try:  # permissions say nothing: root has all of them, and a disk may be read only
        TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        why = f"{place} may not be written ({error.strerror})"
        raise InputError(f"{option} {folder}: {why}: name another") from error


def check_file(option: str, name: str) -> None:
    """A file that can be written, or written over.

    Raises:
        InputError: its folder is not there or may not be written, or it is a folder itself.
    """
    path = Path(name)
    if not name or path.is_dir():
        raise InputError(f"{option} {name or repr(name)}: names no file, but a folder")
    if not path.parent.exists():
        raise InputError(f"{option} {name}: there is no folder {path.parent}: make it first")
    if path.exists() and not path.is_file():
        return  # a pipe or a device is written as it is, see `write_whole`
    check_folder(option, path.parent)
