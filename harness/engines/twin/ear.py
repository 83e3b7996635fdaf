"""The client's end of a connection: bytes come in, times and an answer come out.

The twin's client reads what the mock really writes wherever an answer is not the plain one. It
reads with the parsers of the real client, and does what `ChatClient` and aiohttp do between them.
"""

from collections.abc import Callable, Iterator

from harness.engines.twin.clock import Alarm, Clock
from harness.pipeline.answer import Answer, BadAnswerError, whole
from harness.pipeline.client import END_PATIENCE_S, CallError
from harness.pipeline.events import EventStream
from harness.pipeline.hints import metadata, passing, retry_after_s
from harness.pipeline.reading import Stamps, Watch
from harness.scenario.pipeline import Pipeline

Told = Callable[[Answer | CallError, bool], object]
"""Is told what came of a call, and whether its connection can be used again."""


class Ear:
    """Reads one response.

    Args:
        settings: of the pipeline.
        clock: of the run.
        stamps: get the times.
        told: is called once.
    """

    def __init__(self, settings: Pipeline, clock: Clock, stamps: Stamps, told: Told) -> None:
        self._set, self._clock, self._stamps, self._told = settings, clock, stamps, told
        self._headers: dict[str, str] = {}
        self._left_bytes: int | None = None  # None: it comes in chunks
        self._size = 0
        self._data = bytearray()
        self._coming = bytearray()
        self._ended = self._over = self._reads = False
        self._events: EventStream | None = None
        self._watch: Watch | None = None
        self._patience: Alarm | None = None

    def hear(self, data: bytes) -> None:
        """Bytes have come; a head comes whole, and so does every chunk.

        They are read when all that comes at this instant is there.
        """
        self._coming += data
        if not self._reads:
            self._reads = True
            self._clock.call_at(self._clock.now_s, self._read)

    def _read(self) -> None:
        data, self._coming, self._reads = bytes(self._coming), bytearray(), False
        if self._over:
            return
        if self._stamps.status is None:
            head, _, data = data.partition(b"\r\n\r\n")
            self._open(head.decode())
        try:
            if piece := b"".join(self._pieces(data)):
                self._piece(piece)
            if self._ended:
                self._end()
        except BadAnswerError as error:
            self._bad(error)

    def _open(self, head: str) -> None:
        line, *fields = head.split("\r\n")
        self._headers = {name: value for name, _, value in (one.partition(": ") for one in fields)}
        stamps = self._stamps
        stamps.status, stamps.t_headers = int(line.split(" ")[1]), self._clock.now_s
        length = self._headers.get("Content-Length")
        self._left_bytes = None if length is None else int(length)
        if stamps.status == 200 and self._set.stream:
            self._events = EventStream()
            if self._set.stall_s is not None:
                self._watch = Watch(self, self._set.stall_s, self._clock)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """The body in what came, without framing; notes its end."""
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            self._ended = self._left_bytes <= 0
            if data:
                yield data
            return
        while data:
            size, _, data = data.partition(b"\r\n")
            if not (length := int(size, 16)):
                self._ended = True
                return
            yield data[:length]
            data = data[length + 2 :]

    def _piece(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._set.max_answer_bytes:
            raise BadAnswerError("too_large")
        stamps, events = self._stamps, self._events
        if events is None:
            if stamps.status == 200 and stamps.t_first_token is None and not piece.isspace():
                stamps.t_first_token = self._clock.now_s
            self._data += piece
        elif not events.done and events.feed(piece):
            now = self._clock.now_s
            if stamps.t_first_token is None:
                stamps.t_first_token = now
            if self._watch is not None:
                self._watch.token(now)
        if events is not None and events.done and not self._ended and self._patience is None:
            self._stop_watching()
            self._patience = self._clock.call_at(self._clock.now_s + END_PATIENCE_S, self._end)

    def _end(self) -> None:
        """The body is over, or after its end mark was waited for long enough."""
        if self._over:
            return
        stamps, now = self._stamps, self._clock.now_s
        if stamps.status not in {200, None}:
            stamps.t_first_token = stamps.t_last_token = now
            found = metadata(self._data)
            hint = retry_after_s(self._headers, found)
            word, status = f"http_{stamps.status}", stamps.status
            self._tell(CallError(word, status, hint, passing(status, found)), sound=self._ended)
            return
        content_type = self._headers.get("Content-Type", "")
        try:
            if self._events is None:
                answer = whole(self._data, content_type)
            else:
                answer = self._events.answer(content_type)
        except BadAnswerError as error:
            self._bad(error)
            return
        stamps.t_last_token = now
        self._tell(answer, sound=self._ended)

    def hang_up(self) -> None:
        """The connection was closed by the provider."""
        self._clock.call_at(self._clock.now_s, self._closed)

    def _closed(self) -> None:
        if self._over:
            return
        if self._patience is not None:  # its end mark had come
            self._end()
            return
        word = "disconnected" if self._stamps.status is None else "truncated"
        self._tell(CallError(word, self._stamps.status), sound=False)

    def set_exception(self, exc: BaseException) -> None:
        """The watch gives it up."""
        if isinstance(exc, BadAnswerError) and not self._over:
            self._bad(exc)

    def leave(self) -> None:
        """Listen no more."""
        self._over = True
        self._stop_watching()
        if self._patience is not None:
            self._patience.cancel()

    def _bad(self, error: BadAnswerError) -> None:
        status = error.status or self._stamps.status
        failed = CallError(error.word, status, error.retry_after_s, error.passing)
        self._tell(failed, sound=self._ended)

    def _tell(self, found: Answer | CallError, *, sound: bool) -> None:
        self.leave()
        self._told(found, sound)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
