"""When a fault strikes: once or again and again, at full rate or on a ramp."""

from math import inf


def check_window(
    from_s: float, until_s: float | None, ramp_s: float, every_s: float | None
) -> None:
    """Refuse a window that cannot be.

    Raises:
        ValueError: a sentence that begins with the field at fault.
    """
    length_s = inf if until_s is None else until_s - from_s
    if length_s <= 0:
        msg = f"until_s must be after from_s = {from_s:.12g}, got {until_s:.12g}"
    elif 2 * ramp_s > length_s:
        msg = f"ramp_s must be at most half of the window's {length_s:.12g} s, got {ramp_s:.12g}"
    elif every_s is not None and until_s is None:
        msg = "every_s needs an until_s: a window without an end cannot come again"
    elif every_s is not None and every_s < length_s:
        msg = f"every_s must be at least the window's {length_s:.12g} s, got {every_s:.12g}"
    else:
        return
    raise ValueError(msg)


def intensity(
    since_s: float, from_s: float, until_s: float | None, ramp_s: float, every_s: float | None
) -> float:
    """Return the share of its rate, 0 to 1, that a fault has at a time of the run.

    Args:
        since_s: the time, since the run began.
        from_s: the window's begin, which belongs to it.
        until_s: its end, which does not; None: it has none.
        ramp_s: length of the climb after the begin, and of the fall before the end.
        every_s: after which the window comes again; None: once.
    """
    into_s = since_s - from_s
    if into_s >= 0 and every_s is not None:
        into_s %= every_s
    left_s = inf if until_s is None else until_s - from_s - into_s
    if into_s < 0 or left_s <= 0:
        return 0.0
    return min(1.0, into_s / ramp_s, left_s / ramp_s) if ramp_s else 1.0
