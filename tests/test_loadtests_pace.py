"""How fast users come and go."""

import pytest

from loadtests.shapes import pace


@pytest.mark.parametrize(
    ("users", "then", "per_s"), [(0, 5000, 100), (30, 3, 100), (4000, 0, 4000), (1000, 100, 900)]
)
def test_all_who_leave_do_so_together(users: int, then: int, per_s: float) -> None:
    """A hundred come a second; those who leave do within one, however many they are."""
    assert pace(users, then) == per_s
