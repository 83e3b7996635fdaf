"""Which command a request stands for: a pure function of its method, path, query and body."""

from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from mock_llm.config import Upstream
from mock_llm.control.commands import Command, Edit, Journal, Look, Pause, Reset, Resume

PARTS = frozenset(Upstream.__struct_fields__)
_HOW: dict[str, Literal["put", "patch", "delete"]] = {
    "PUT": "put",
    "PATCH": "patch",
    "DELETE": "delete",
}
_READS = {"", "upstream", "changes", "journal"}
_ACTIONS: dict[str, type[Reset | Pause | Resume]] = {
    "reset": Reset,
    "pause": Pause,
    "resume": Resume,
}
_MOST_ROWS = 1000


class Refused(Exception):  # noqa: N818 - an answer, not a mishap
    """A request that no command can be made of.

    Attributes:
        status: as HTTP has it.
        fields: header fields that the answer needs.
    """

    def __init__(self, status: int, why: str, fields: bytes = b"") -> None:
        super().__init__(why)
        self.status, self.fields = status, fields


def command_of(
    method: str, path: tuple[str, ...], query: dict[str, list[str]], body: bytes
) -> Command:
    """The command that a request stands for.

    Args:
        method: of HTTP.
        path: its parts below `/__control`.
        query: its parameters.
        body: JSON, where the command takes any.

    Raises:
        Refused: there is no such command, or its parameters are wrong.
    """
    name = path[0] if path else ""
    if name in PARTS or path == ("upstream",):
        return _upstream(method, path if name in PARTS else (), body)
    if len(path) > 1 or (name not in _READS and name not in _ACTIONS):
        raise Refused(404, "there is no such page; docs/control.md has all of them")
    allowed = "GET" if name in _READS else "POST"
    if method != allowed:
        raise not_allowed(allowed)
    if name == "journal":
        return Journal(_number(query, "after", 0), min(_number(query, "limit", 100), _MOST_ROWS))
    if name in _READS:
        return Look()
    return _parsed(body or b"{}", Reset) if name == "reset" else _ACTIONS[name]()


def _upstream(method: str, place: tuple[str, ...], body: bytes) -> Command:
    how = _HOW.get(method)
    if method == "GET":
        return Look()
    if how is None or (how == "delete" and not place):
        raise not_allowed("GET, PUT, PATCH" + (", DELETE" if place else ""))
    return Edit(place, None if how == "delete" else _parsed(body, Any), how)


def _number(query: dict[str, list[str]], name: str, usually: int) -> int:
    text = query.get(name, [str(usually)])[-1]
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise Refused(422, f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


def _parsed(body: bytes, type_: Any) -> Any:
    try:
        value = msgspec.json.decode(body, type=type_)
        msgspec.msgpack.encode(value)  # as it goes to other processes
    except OverflowError as error:
        raise Refused(422, "a whole number is too large: at most 64 bits") from error
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from error
    except RecursionError as error:
        raise Refused(422, "the body is nested too deeply") from error
    return value


def path_of(route: str) -> tuple[str, ...]:
    """The parts below `/__control`; what has a name of its own may have slashes in it."""
    name, _, rest = route.removeprefix("/__control").strip("/").partition("/")
    return tuple(_text(unquote(one)) for one in (name, rest) if one)


def _text(text: str) -> str:
    """Text without what stands for bytes that are not UTF-8: no JSON could hold that."""
    return text.encode("utf-8", "replace").decode()


def not_allowed(methods: str) -> Refused:
    """405, for a page that is there for other methods."""
    return Refused(405, f"the method must be one of: {methods}", f"Allow: {methods}\r\n".encode())
