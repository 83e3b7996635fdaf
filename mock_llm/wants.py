"""What a request asks of the shape of its answer, beyond how long it may be."""

import msgspec

from mock_llm.structured import Document


class Tool(msgspec.Struct, frozen=True):
    """A tool that may be called; the schema is that of its arguments."""

    name: str
    schema: Document


class Wants(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of an answer.

    Attributes:
        stop: the text ends before the first of these.
        json: it is a JSON object.
        schema: it is an instance of this.
        tools: it is a call of one of these, and no text.
        parallel: it calls all of them.
    """

    stop: tuple[str, ...] = ()
    json: bool = False
    schema: Document | None = None
    tools: tuple[Tool, ...] = ()
    parallel: bool = False
