"""Work that begins where it is made, as an eager task of Python 3.12 does.

What never has to wait needs no task then, and no turn of the loop until the task gets to it.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

Work = Coroutine[Any, Any, None]


class Begun:
    """The rest of work that has come to its first wait; it is to be awaited, or cancelled."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Work, waits_for: object) -> None:
        self._work, self._waits_for = work, waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        """Go on, in the task that awaits this."""
        waits_for = self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001 - the work's own business
                    waits_for = self._work.throw(error)
                else:
                    waits_for = self._work.send(value)
        except StopIteration:
            return

    def cancel(self) -> None:
        """End the work where it waits, as the cancelling of its task would."""
        with suppress(asyncio.CancelledError):
            self._work.throw(asyncio.CancelledError())


def begin(work: Work) -> Begun | None:
    """Do what can be done without waiting; return the rest, None if that was all.

    What goes wrong is raised where the rest is awaited.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    except BaseException as error:  # noqa: BLE001 - as a task would keep it
        return Begun(_failed(error), None)
    return Begun(work, waits_for)


async def _failed(error: BaseException) -> None:
    raise error
