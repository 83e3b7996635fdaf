"""What control can do to a mock: each command is plain data, and doing it needs no await.

So a command can be carried out here, or sent to several processes that serve together: as long as
all of them get the same commands in the same order, they stay one provider.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from mock_llm.behaviour import Provider
from mock_llm.config import Upstream
from mock_llm.control.snapshot import Snapshot, snapshot_of
from mock_llm.errors import InputError
from mock_llm.ledger import Row
from mock_llm.masking import masked_table, unmasked_table
from mock_llm.server import MockServer
from mock_llm.strict import FieldError, convert

_LONGEST_VALUE = 4096


class Look(msgspec.Struct, frozen=True, tag=True):
    """Take a snapshot."""


class Journal(msgspec.Struct, frozen=True, tag=True):
    """Read rows of the ledger: at most `limit`, of those after a number."""

    after: int = 0
    limit: int = 100


class Edit(msgspec.Struct, frozen=True, tag=True):
    """Change a part of the upstream.

    Attributes:
        path: from the upstream to the part; empty: all of it.
        value: what to put there, or what to merge into it.
        how: `put` replaces the part, `patch` merges (RFC 7396), `delete` takes it away.
    """

    path: tuple[str, ...]
    value: Any = None
    how: Literal["put", "patch", "delete"] = "patch"


class Reset(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Forget all that has happened; a seed of None is the same again."""

    seed: int | None = None


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Let attempts wait before they are admitted."""


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Let them go on."""


Command = Look | Journal | Edit | Reset | Pause | Resume


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command.

    Attributes:
        status: as HTTP has it.
        error: one line when it could not be done, and nothing was changed.
        snapshot: of the mock, for `Look`.
        rows: for `Journal`, with their numbers.
    """

    status: int = 200
    error: str = ""
    snapshot: Snapshot | None = None
    rows: list[tuple[int, Row]] = []


def apply(server: MockServer, command: Command, now: float) -> Result:
    """Do what a command says, at `now` of the server's loop."""
    match command:
        case Look():
            return Result(snapshot=snapshot_of(server, now))
        case Journal(after, limit):
            return Result(rows=server.ledger.after(after, limit))
        case Edit():
            return _edit(server, command, now)
        case Reset(seed):
            server.reset(seed)
            server.ledger.changed(now, "reset", None if seed is None else {"seed": seed})
        case Pause():
            server.pause()
            server.ledger.changed(now, "pause")
        case Resume():
            server.resume()
            server.ledger.changed(now, "resume")
    return Result()


def _edit(server: MockServer, command: Edit, now: float) -> Result:
    table = msgspec.to_builtins(server.upstream)
    place = ".".join(command.path) or "upstream"
    if command.how == "delete" and part(table, command.path) is msgspec.UNSET:
        return Result(status=404, error=f"{place}: there is none")
    try:
        edited = unmasked_table(_edited(table, command.path, command), table)
        upstream = convert(edited, Upstream, "")
        Provider(upstream, seed=server.seed)  # raises before anything is changed
        server.change(upstream)  # likewise, if it cannot read a cassette
    except FieldError as error:
        return Result(status=422, error=str(error.at("", ("upstream",))))
    except InputError as error:
        return Result(status=422, error=str(error))
    except RecursionError:
        return Result(status=422, error=f"{place}: nested too deeply")
    server.ledger.changed(now, f"{command.how} {place}", _remembered(command))
    return Result()


def _remembered(command: Edit) -> Any:
    """What an edit put where, without the keys in it, if it is not too long."""
    table = command.value
    for name in reversed(command.path):
        table = {name: table}
    value = part(masked_table(table), command.path) if isinstance(table, dict) else None
    size = len(msgspec.json.encode(value))
    return value if size <= _LONGEST_VALUE else f"({size} bytes)"


def part(table: Any, path: Sequence[str]) -> Any:
    """What is at a path, `msgspec.UNSET` when nothing is."""
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return msgspec.UNSET
        table = table[name]
    return table


def _edited(table: Any, path: tuple[str, ...], command: Edit) -> Any:
    """A copy of a table in which what is at the path has been edited."""
    if not path:
        return merge_patch(table, command.value) if command.how == "patch" else command.value
    name, below = path[0], dict(table) if isinstance(table, dict) else {}
    if command.how == "delete" and len(path) == 1:
        del below[name]
    else:
        below[name] = _edited(below.get(name), path[1:], command)
    return below


def merge_patch(target: Any, patch: Any) -> Any:
    """Merge as RFC 7396, section 2, has it: null removes, tables merge, the rest replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
