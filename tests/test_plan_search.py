"""The search finds what trying everything would, with fewer runs, and says why."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import SMALL, Fake, point, question

from harness.experiments.plan import LEAST, Plan, Question, binding, frontier, knee, plan
from harness.experiments.plan.answer import DOTS
from harness.experiments.plan.bounds import impossible
from harness.experiments.plan.judge import MOST, missed, verdict
from harness.experiments.plan.same import Sharing
from harness.experiments.plan.search import Search
from harness.experiments.points import Point, Task, measure, prepared_for
from harness.scenario.slo import Bound

IN_TIME = Bound("duration_s", "<=", 20.0)
STORM = "[upstream.throttle]\nrequests_per_min = 90\n"
DRIFT = "[upstream.drift]\nfactors = [1.0, 1.1]\n"


def shared(task: Task) -> dict[str, float]:
    """Sixty calls of a second on so many slots; the luck of a seed is worth a tenth of a second."""
    pipe = task.scenario.pipeline
    failed = 0.0 if pipe.retries else 0.05
    return {
        "duration_s": 60 / pipe.concurrency + 0.1 * (task.seed % 3),
        "throughput_per_s": float(pipe.concurrency),
        "success_rate": 1 - failed,
        "cost_usd": 1.0,
    }


def planned(folder: Path, goal: str, *over: str, text: str = SMALL) -> tuple[Plan, Fake]:
    """The plan that arithmetic leads to, and the runs that were made for it."""
    fake = Fake(shared)
    return plan(question(folder, goal, over=over, text=text), fake), fake


@pytest.mark.parametrize("text", [SMALL, SMALL + DRIFT])
def test_the_cheapest_that_holds_is_found(tmp_path: Path, text: str) -> None:
    """The least slots and retries that keep the promise win, and the next cheaper one misses."""
    over = ("pipeline.concurrency=1-20", "pipeline.retries=0-2")
    found, _ = planned(tmp_path, "60 reviews in 10 s", *over, text=text)
    assert found.winner is not None
    assert found.cheaper is not None
    assert found.winner.configuration.label == "concurrency=7, retries=1"
    assert found.cheaper.configuration.label == "concurrency=7, retries=0"
    assert found.cheaper.verdict == "out"
    assert len(found.winner.points) == LEAST
    assert found.holds


def test_what_is_dearer_than_the_answer_is_not_run(tmp_path: Path) -> None:
    """No run is made of what costs more than the answer, unless the curve wants it."""
    over = ("pipeline.concurrency=5-20", "pipeline.retries=1-3")
    _, fake = planned(tmp_path, "60 reviews in 10 s", *over, text=SMALL + DRIFT)
    dearer = {label for label in fake.asked if label.startswith("concurrency=15, retries=")}
    assert dearer == {"concurrency=15, retries=1"}


def test_halving_takes_the_logarithm(tmp_path: Path) -> None:
    """Where more slots can only help, a thousand of them take about ten runs to search."""
    asked = question(tmp_path, "60 reviews in 3 s", over=["pipeline.concurrency=1-1000"])
    fake = Fake(shared)
    search = Search(asked.configurations, asked.bounds, fake)
    best = search.winner()
    assert best is not None
    assert best.configuration.label == "concurrency=22"  # 21 is in time with every third seed
    assert len(set(fake.asked)) < 16


def test_what_broke_others_comes_first(tmp_path: Path) -> None:
    """A configuration that holds with most seeds soon meets the one that its neighbours missed."""

    def figures(task: Task) -> dict[str, float]:
        return {
            "duration_s": 99.0 if task.seed == 8 and task.scenario.pipeline.concurrency < 6 else 1.0
        }

    text, over = SMALL + DRIFT, ["pipeline.concurrency=4-9"]
    asked = question(tmp_path, "60 reviews in 60 s", over=over, text=text)
    fake = Fake(figures)
    search = Search(asked.configurations, asked.bounds, fake)
    best = search.winner()
    assert best is not None
    assert best.configuration.label == "concurrency=6"
    assert sorted(point.seed for point in best.points) == list(range(1, LEAST + 1))
    first, second = search.candidates[:2]
    assert (len(first.points), len(second.points)) == (LEAST, 3)
    assert [point.seed for point in second.points[:2]] == [1, 8]


def test_a_limit_that_never_acts_makes_no_run(tmp_path: Path) -> None:
    """Where all was answered, more retries are the same run to the bit, and only there not made."""
    text = SMALL + "[upstream.faults]\nout = { kind = 'server_error', rate = 0.05 }\n"
    asked = question(tmp_path, "60 reviews in 60 s", over=["pipeline.retries=0-4"], text=text)
    tasks = [
        msgspec.structs.replace(one.task, seed=n) for one in asked.configurations for n in (1, 2)
    ]
    made: list[Task] = []

    def sweep(some: Sequence[Task]) -> list[Point]:
        made.extend(some)
        return [measure(task) for task in some]

    shared = Sharing(sweep)
    found = [(point.key, point.label, point.figures) for point in shared(tasks)]
    assert found == [(p.key, p.label, p.figures) for p in map(measure, tasks)]
    assert len({task.key for task in made}) == len(made) == len(tasks) - shared.spared
    answered = [figures["success_rate"] == 1 for _, _, figures in found]
    assert answered[:2] == [False, False]
    assert shared.spared == sum(answered) - 2  # of each seed the first that answered all was made


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Question]:
    """Forty configurations: up to ten slots, up to three retries; asked for once."""
    over = ["pipeline.concurrency=1-10", "pipeline.retries=0-3"]
    folder = tmp_path_factory.mktemp("plan")
    asked = question(folder, "60 reviews in 60 s", over=over, text=SMALL + DRIFT)
    return lambda: asked


@settings(max_examples=30, deadline=None)
@given(
    limits=st.lists(st.integers(1, 12), min_size=4, max_size=4),
    bills=st.lists(st.sampled_from([1.0, 1.005, 1.5, 2.0]), min_size=4, max_size=4),
)
def test_search_agrees_with_trying_everything(
    routes: Callable[[], Question], limits: list[int], bills: list[float]
) -> None:
    """Whatever each of four routes needs and costs, the answer is what brute force finds."""

    def figures(task: Task) -> dict[str, float]:
        pipe = task.scenario.pipeline
        held = pipe.concurrency >= limits[pipe.retries]
        return {"duration_s": 1.0 if held else 99.0, "cost_usd": bills[pipe.retries]}

    search = Search(routes().configurations, routes().bounds, Fake(figures))
    search.run_all()
    best = search.winner()
    holding = [
        (bills[retries], slots, retries)
        for slots in range(1, 11)
        for retries in range(4)
        if slots >= limits[retries]
    ]
    if not holding:
        assert best is None
        return
    least = min(usd for usd, _, _ in holding)
    _, slots, retries = min(holding, key=lambda one: (one[0] > 1.05 * least, one[1], one[2]))
    assert best is not None
    assert best.configuration.label == f"concurrency={slots}, retries={retries}"


def test_a_run_that_misses_is_enough_to_be_out(tmp_path: Path) -> None:
    """One run that breaks a promise says that the configuration does not keep it."""
    task = question(tmp_path, "60 reviews in 20 s").configurations[0].task
    held, late = point(task, duration_s=19.0), point(task, duration_s=21.0)
    assert verdict([held] * 7 + [late], [IN_TIME])[0] == "out"
    assert missed(late, [IN_TIME]) == "duration_s <= 20: 21"


def test_a_few_runs_are_not_enough_to_be_in(tmp_path: Path) -> None:
    """So many runs must hold, and twice as many where calls had to be made again."""
    task = question(tmp_path, "60 reviews in 20 s").configurations[0].task
    calm, rough = point(task, duration_s=10.0), point(task, duration_s=10.0, attempts=61.0)
    assert verdict([calm] * (LEAST - 1), [IN_TIME])[0] == "close"
    assert verdict([calm] * LEAST, [IN_TIME])[0] == "in"
    assert verdict([rough] * (MOST - 1), [IN_TIME])[0] == "close"
    assert verdict([rough] * MOST, [IN_TIME])[0] == "in"


def test_what_is_near_its_limit_is_not_recommended(tmp_path: Path) -> None:
    """Runs that all hold, but scatter so much that the next may not, are close."""
    task = question(tmp_path, "60 reviews in 20 s").configurations[0].task
    near = [point(task, duration_s=19.9 - 0.2 * (n % 4)) for n in range(LEAST)]
    assert verdict(near, [IN_TIME])[0] == "close"


@pytest.mark.parametrize(
    ("goal", "text", "said"),
    [
        ("600 reviews in 60 s", SMALL, "600 calls of 1.00 s, 4 at once, take 150 s at least"),
        ("600 reviews in 60 s", SMALL + STORM, "admits 90 a minute, take 6 min at least"),
        (
            "270 reviews in 2 min",
            SMALL + STORM,
            "take over 120 s; the goal is 120 s; no client can: it would take 1.5 times",
        ),
        ("60 reviews in 60 s", SMALL + "cost_usd = '<= 0.001'", "the goal is $0.0010"),
        ("600/s", SMALL, "that is under 600/s"),
    ],
)
def test_infeasible_goals_say_which_bound(tmp_path: Path, goal: str, text: str, said: str) -> None:
    """What no run can reach is told with its number, and nothing runs."""
    asked = question(tmp_path, goal, over=["pipeline.concurrency=1-4"], text=text)
    fake = Fake(shared)
    found = plan(asked, fake)
    assert found.winner is None
    assert fake.asked == []
    assert said in found.why


def test_bounds_rule_out_nothing_that_can_be(tmp_path: Path) -> None:
    """A goal that a real run reaches is never called impossible."""
    asked = question(tmp_path, "60 reviews in 16 s", over=["pipeline.concurrency=4"])
    prepared = prepared_for(asked.configurations[0].task)
    assert impossible(prepared, asked.bounds) is None
    late = [Bound("duration_s", "<=", 5.0)]
    reason = impossible(prepared, late)
    assert reason is not None
    assert reason.over > 2
    assert impossible(prepared, [Bound("throughput_per_s", ">=", 0.0)]) is None


def test_a_limit_per_minute_is_reached_to_the_minute(tmp_path: Path) -> None:
    """Of 61 calls at 30 a minute the last begins after two minutes, and may soon end."""
    text = SMALL.replace("reviews = 60", "reviews = 61") + "[upstream.throttle]\n"
    text += "requests_per_min = 30\n"
    sets = ["pipeline.retries=20", "pipeline.concurrency=30", "upstream.profile.ttft=0.4"]
    asked = question(tmp_path, "61 reviews in 2 min", text=text, sets=sets)
    task = asked.configurations[0].task
    assert impossible(prepared_for(task), asked.bounds) is not None
    assert impossible(prepared_for(task), [Bound("duration_s", "<=", 120.5)]) is None
    assert (measure(task).figures["duration_s"] or 0.0) > 120


def test_what_binds_is_where_a_unit_is_worth_the_most(tmp_path: Path) -> None:
    """A slot more helps where slots bind, and the time limit, which nothing meets, does not."""
    found, _ = planned(tmp_path, "60 reviews in 10 s", "pipeline.concurrency=1-20")
    worth = binding(found.worths)
    assert worth is not None
    assert worth.constraint == "concurrency"
    assert worth.change.mean == pytest.approx(60 / 8 - 60 / 7)
    assert {one.constraint for one in found.worths if not one.better} == {"retries", "time limit"}
    assert {one.constraint: one.change.n for one in found.worths} == {
        "concurrency": 4,
        "retries": 2,  # the same to the last digit of every figure: that is looked at no longer
        "time limit": 2,
    }


def test_the_curve_is_drawn_over_all_slots(tmp_path: Path) -> None:
    """The curve has every value of its knob, also those that the search had no need of."""
    over = ("pipeline.concurrency=1-20", "pipeline.retries=1-2")
    found, _ = planned(tmp_path, "60 reviews in 10 s", *over)
    assert found.curve is not None
    assert found.curve.dots == tuple((float(n), float(n)) for n in range(1, 21))
    assert found.curve.knee is None


def test_a_long_curve_has_dots_enough(tmp_path: Path) -> None:
    """Of very many values a curve has some two dozen, with both of its ends."""
    found, _ = planned(tmp_path, "60 reviews in 10 s", "pipeline.concurrency=1-500")
    assert found.curve is not None
    assert DOTS <= len(found.curve.dots) <= DOTS + 12
    assert [found.curve.dots[at][0] for at in (0, -1)] == [1, 500]


def test_knee_is_where_a_curve_bends() -> None:
    """A curve that rises to 5 and then is flat has its knee there; a straight one has none."""
    assert knee([(x, min(x, 5.0)) for x in range(1, 15)]) == 5
    assert knee([(x, 2.0 * x) for x in range(9)]) is None
    assert knee([(1.0, 1.0), (2.0, 2.0)]) is None


def test_rounding_is_no_gain(tmp_path: Path) -> None:
    """What differs in the last digits of a float is worth nothing, and on no frontier."""

    def figures(task: Task) -> dict[str, float]:
        return {"latency_s.p99": 4.4 - 1e-15 * task.scenario.pipeline.concurrency}

    over = ["pipeline.concurrency=2-3"]
    asked = question(tmp_path, slo=["latency_s.p99<=9"], over=over)
    found = plan(asked, Fake(figures))
    assert {(one.change.mean, one.change.half_width) for one in found.worths} == {(0.0, 0.0)}
    assert frontier([(1.0, 4.4), (2.0, 4.4 - 1e-15), (3.0, 4.3)]) == [0, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_frontier_is_what_nothing_beats(dots: list[tuple[int, int]]) -> None:
    """Every dot is on the frontier, or as good as or beaten by one that is."""
    best = frontier(dots)
    for dot in dots:
        assert any(dots[at][0] <= dot[0] and dots[at][1] <= dot[1] for at in best)
    for at in best:
        x, y = dots[at]
        assert not any(a <= x and b <= y and (a, b) != (x, y) for a, b in dots)


def test_what_is_dearer_is_not_the_next_cheaper(tmp_path: Path) -> None:
    """Fewer slots whose bill is near the winner's, but not near the least one, are no cheaper."""
    dollars = {4: 1.09, 5: 1.04, 6: 1.0}

    def figures(task: Task) -> dict[str, float]:
        return {"cost_usd": dollars[task.scenario.pipeline.concurrency], "duration_s": 5.0}

    over = ["pipeline.concurrency=4-6", "pipeline.barrier=true"]
    found = plan(question(tmp_path, "60 reviews in 50 s", over=over), Fake(figures), every=True)
    assert found.winner is not None
    assert found.winner.configuration.slots == 5
    assert found.cheaper is None
