"""Which user is which: numbers are dealt out, and a user who comes back goes on where it left."""

from heapq import heappop, heappush


class Numbers:
    """The numbers of the users of one process.

    Args:
        first: the lowest.
        step: between two of them, so that several processes never have the same user.

    Attributes:
        first: as given.
        step: as given.
    """

    def __init__(self, first: int = 0, step: int = 1) -> None:
        self.first, self.step = first, step
        self._next = first
        self._left: list[int] = []
        self._asked: dict[int, int] = {}

    def take(self) -> tuple[int, int]:
        """The lowest number that nobody has, and how many requests were made under it."""
        if self._left:
            number = heappop(self._left)
        else:
            number, self._next = self._next, self._next + self.step
        return number, self._asked.get(number, 0)

    def give_back(self, number: int, asked: int) -> None:
        """A user leaves who has made so many requests, all told."""
        self._asked[number] = asked
        heappush(self._left, number)
