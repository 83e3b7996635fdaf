"""Work done so far: the integral of a rate that changes now and then."""


class WorkClock:
    """How far everybody who is being served has come.

    Work is measured in seconds at full speed: at rate 1 it passes as time does, at rate .5 half as
    fast. All who share one rate share one clock, so that a change of it is one step, however many
    they are. While the rate is 1 from the beginning, work and time are the same to the last digit.
    """

    def __init__(self) -> None:
        self._rate = 1.0
        self._since = self._work = 0.0

    @property
    def rate(self) -> float:
        """Work per second at present."""
        return self._rate

    def work(self, now: float) -> float:
        """Return the work done until now; `now` is not before the last change of the rate."""
        return self._work + (now - self._since) * self._rate

    def when(self, work: float) -> float:
        """Return the moment at which so much will be done, if the rate stays as it is."""
        return self._since + (work - self._work) / self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Go on at another rate, above 0, from now on."""
        if rate != self._rate:
            # Timers may fire a little early: what is done stays done.
            now = max(now, self._since)
            self._work, self._since, self._rate = self.work(now), now, rate
