"""A sample of `make closed-forms`: the twin has the closed form in its interval."""

import pytest
from closed_forms import holds, simulated
from queues import rows

TABLE = rows()
QUICK = {
    *("M/M/5 3", "M/M/5 4", "M/M/5/5 4", "M/M/5/10 6", "M/E2/1 0.8"),
    *("M/M/5+M(2) 6", "M/M/5+D(1) 6"),
}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_the_twin_has_the_closed_form_in_its_interval(name: str) -> None:
    """Eight runs hold it within 2 %, and a recursion that knows no twin has all their waits."""
    mine = [row for row in TABLE if row.queue.name == name]
    short = [row._replace(queue=row.queue._replace(requests=1000)) for row in mine]
    for row, found in zip(short, simulated(short, 8, 500_000, 2 * len(TABLE)), strict=True):
        assert found.apart <= (1e-9 if row.queue.waiting else 1.01e-6)  # a refusal has travelled
        assert holds(row, found), (row.value, found.alone, found.told)


def test_a_service_without_places_loses_what_erlang_says() -> None:
    """Who finds a worker idle is served, with no place to wait; the rest is refused at once."""
    (row,) = (row for row in TABLE if row.queue.name == "M/M/5/5 4")
    mine = row._replace(queue=row.queue._replace(requests=1000, at_service=True))
    (found,) = simulated([mine], 8, 500_000, 2 * len(TABLE))
    assert found.apart <= 1e-9
    assert holds(mine, found), (row.value, found.alone, found.told)


def test_a_wrong_closed_form_is_outside() -> None:
    """A value that is off by a tenth is seen to be."""
    (row,) = (row for row in TABLE if row.queue.name == "M/M/5 3")
    wrong = row._replace(value=1.1 * row.value, queue=row.queue._replace(requests=1000))
    (found,) = simulated([wrong], 8, 500_000, 2 * len(TABLE))
    assert not holds(wrong, found)
    assert found.told.inside(wrong.value) == "NO"


def test_the_table_has_every_row_of_the_reference() -> None:
    """Six M/M/c, four losses, and two figures of four finite and eight impatient queues."""
    figures = [row.figure for row in TABLE]
    assert len({row.queue.name for row in TABLE}) == 6 + 4 + 4 + 4 + 8
    assert {one: figures.count(one) for one in figures} == {
        "sojourn": 10,
        "lost": 4 + 4 + 8,
        "wait": 4,
        "wait of all": 8,
    }
