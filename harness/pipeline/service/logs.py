"""The service's log: one JSON object a line, through the standard library's `logging`.

No header and no key of a provider is ever handed to it; what it says of a request is what the
records know, and the user's name as it was given.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

LOGGER = "harness.service"
_FIELDS = "flight"


def told(fields: Mapping[str, object]) -> dict[str, Any]:
    """Fields of a line, as `extra` of a logger's call."""
    return {_FIELDS: fields}


class JsonFormatter(logging.Formatter):
    """A record as JSON.

    Args:
        timed: with the time of day; on a virtual clock there is none.
    """

    def __init__(self, *, timed: bool = True) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, without its end."""
        line: dict[str, object] = {}
        if self._timed:
            line["time"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        line |= {"level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, _FIELDS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


@contextmanager
def logging_to(stream: TextIO, level: int = logging.INFO) -> Iterator[logging.Logger]:
    """Have the service's log written to a stream, and what libraries complain of."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root, own = logging.getLogger(), logging.getLogger(LOGGER)
    root.addHandler(handler)
    own.setLevel(level)
    try:
        yield own
    finally:
        root.removeHandler(handler)
        own.setLevel(logging.NOTSET)
