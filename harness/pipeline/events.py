"""A streamed answer in the making: bytes go in as they come, an answer comes out. Pure."""

import msgspec

from harness.pipeline.answer import NO_USAGE, Answer, BadAnswerError, answer, decode, whole

_DATA = b"data:"
_DONE = b"[DONE]"
_OTHER_FIELDS = (b":", b"event:", b"id:", b"retry:")


class EventStream:
    """Server-sent events put together; a comment is a keep-alive and no token.

    A line ends with a line feed, whatever stands before it. An event is one line of `data`, as
    every provider sends it. Events that come twice cannot be told from a text that repeats itself.

    Attributes:
        done: the end mark was there.
    """

    def __init__(self) -> None:
        self.done = False
        self._rest = bytearray()
        self._foreign = bytearray()
        self._begun = False
        self._text: list[str] = []
        self._usage: msgspec.Raw = NO_USAGE
        self._finish: str | None = None

    def feed(self, data: bytes) -> bool:
        """Take in bytes, cut anyhow; returns whether some of the answer's text was among them.

        Raises:
            BadAnswerError: see `answer.decode`; an error event is one.
        """
        lines = data.split(b"\n")
        if len(lines) == 1:
            self._rest += data
            return False
        if self._rest:
            lines[0] = bytes(self._rest) + lines[0]
        self._rest = bytearray(lines.pop())
        said = len(self._text)
        for line in lines:
            self._line(line)
            if self.done:
                break
        return len(self._text) > said

    def answer(self, content_type: str = "") -> Answer:
        """The whole answer, after the body's end or the end mark.

        Raises:
            BadAnswerError: `missing_done` for a stream that ends without its end mark, which both
                official SDKs take for success; `json_for_sse` where no stream came, or what
                `answer.whole` says is wrong with what came instead.
        """
        if not self.done and self._rest:
            self._line(bytes(self._rest))
        if self.done:
            return answer("".join(self._text), self._usage, self._finish)
        if self._begun:
            raise BadAnswerError("missing_done")
        whole(self._foreign, content_type)
        raise BadAnswerError("json_for_sse")

    def _line(self, line: bytes) -> None:
        if not line.startswith(_DATA):
            if line.startswith(_OTHER_FIELDS):
                self._begun = True
            elif not self._begun:
                self._foreign += line + b"\n"
            return
        self._begun = True
        data = line[len(_DATA) :].strip()
        if data == _DONE:
            self.done = True
            return
        chunk = decode(data)
        if chunk.usage is not NO_USAGE and bytes(chunk.usage) != b"null":
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            self._finish = choice.finish_reason or self._finish
            piece = choice.delta.content if choice.delta else None
            if piece:
                self._text.append(piece)
