"""A batch job on the twin's clock; see `pipeline.job` and `pipeline.dispatch`."""

from collections import deque
from collections.abc import Sequence

from harness.engines.base import Prepared
from harness.engines.twin.clock import Clock, Flow, Interrupt, Work
from harness.engines.twin.endpoint import Endpoint
from harness.engines.twin.processor import TwinProcessor
from harness.pipeline.cache import MemoryCache, answer_cache
from harness.pipeline.dispatch import Dispatch, Stop
from harness.pipeline.job import Job, limits_of_job
from harness.pipeline.request import Item
from harness.pipeline.toolkit import Toolkit
from harness.scenario.pipeline import Pipeline


class TwinDispatch(Dispatch):
    """Hands items to workers, each of them a process."""

    def __init__(self, items: Sequence[Item], settings: Pipeline, job: "TwinJob") -> None:
        super().__init__(items, settings, job._handle)  # noqa: SLF001 - the base wants one
        self._job = job
        self._workers: list[Work] = []

    def stop(self, reason: Stop) -> None:
        """End it now."""
        if self.stopped is None and self._workers:
            self.stopped = reason
            for worker in self._workers:
                if worker.is_alive:
                    worker.interrupt()

    def fly(self, clock: Clock) -> Flow[None]:
        """Serve every item, or as many as there is time for."""
        self.began = clock.now_s
        deadline = self._set.job_deadline_s
        timer = deadline and clock.call_at(self.began + deadline, self.stop, "job_deadline")
        for wave in self._waves():
            queued, waiting = clock.now_s, deque(wave)
            self._workers = [
                clock.process(self._job.shift(number, waiting, queued))
                for number in range(self._count(wave))
            ]
            for worker in self._workers:
                if worker.is_alive:
                    yield worker
            if self.stopped is not None:
                break
        self._workers = []
        if timer:
            timer.cancel()


class TwinJob(Job):
    """One run of a batch over its items, without sockets.

    Args:
        prepared: what is run.
        tools: see `Toolkit`.
        seed: of the weather.
    """

    def __init__(self, prepared: Prepared, tools: Toolkit, seed: int) -> None:
        settings = prepared.scenario.pipeline
        super().__init__(prepared.items, settings, tools)
        self.clock = Clock()
        self._flight = TwinDispatch(prepared.items, settings, self)
        self._dispatch = self._flight
        truths = prepared.truths  # where each request's is known, nobody looks for texts
        answers = truths if len(truths) == len(prepared.items) else prepared.answer_key
        end = Endpoint(prepared.scenario.upstream, seed, answers, settings, self.clock)
        cache = answer_cache(settings)
        self._processor = TwinProcessor(
            settings,
            tools,
            end,
            add=self._add,
            context_of=lambda _: self.context,
            stopped=self._why_stopped,
            limits=limits_of_job(settings),
            cache=cache if isinstance(cache, MemoryCache) else None,
        )

    @property
    def stopped(self) -> Stop | None:
        """Why the job was ended before its end, or None."""
        return self._dispatch.stopped or ("budget" if self._processor.books.broke else None)

    def fly(self) -> None:
        """Serve every item; after it each of them has a row."""
        clock = self.clock
        self._meter.start(clock.now_s)
        end = clock.process(self._flight.fly(clock))
        clock.until(end)
        if end.is_alive:
            self.stop("never_answered")
            clock.until(end)
        if self.stopped == "job_deadline":
            self._close_unstarted(clock.now_s)

    def shift(self, number: int, waiting: deque[Item], queued: float) -> Flow[None]:
        """A worker: one item after another."""
        clock, started = self.clock, self._dispatch.started
        try:
            while waiting:
                item = waiting.popleft()
                started.add(item.key)
                request = self._request(item, number, queued, clock.now_s)
                answer = yield from self._processor.handle(request)
                self._done(item, answer, clock.now_s)
        except Interrupt:
            return
