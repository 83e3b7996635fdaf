"""A cassette's speeds as a scenario: measured quantiles in place of guessed ones."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mock_llm.cassette import Cassette, Exchange
from mock_llm.config import default_models
from mock_llm.distributions import Empirical
from mock_llm.errors import InputError
from mock_llm.said import read_said
from mock_llm.tapes import empirical, first_s, is_good, is_stream, tape_of

_POINTS = 21  # every 5 %


def fitted(cassette: Cassette) -> str:
    """A scenario in TOML with the cassette's models at the speed that was measured.

    Raises:
        InputError: there is no good answer of any model in it.
    """
    good: defaultdict[str, list[Exchange]] = defaultdict(list)
    for one in cassette.exchanges:
        if is_good(one) and one.request.model:
            good[one.request.model].append(one)
    if not good:
        raise InputError("the cassette has no good answer of any model: nothing to fit")
    first = Counter({model: len(found) for model, found in good.items()}).most_common(1)[0][0]
    lines = [f"# Fitted to answers of {cassette.header.upstream}.", "[workload]", "reviews = 100"]
    lines += ["", "[pipeline.router]", 'kind = "single"', f"model = {_quoted(first)}"]
    lines += ["", "[upstream]", 'reply = "text"']
    set_up = [one.connect_s for one in cassette.exchanges if one.new_connection]
    lines += [_law("connection_setup", set_up)] if set_up else []
    return "\n".join([*lines, *(line for name in good for line in _model(name, good[name]))]) + "\n"


def _model(name: str, exchanges: Sequence[Exchange]) -> Iterator[str]:
    # Only a stream tells its first token from its last; without any, the first is the whole wait.
    measured = [one for one in exchanges if is_stream(one)] or exchanges
    said = {id(one): read_said(b"".join(c.data for c in one.chunks)) for one in exchanges}
    firsts, gaps = [], []
    for one in measured:
        tape = tape_of(one, said[id(one)])
        firsts.append(first_s(tape) if is_stream(one) else tape.end_s)
        tokens = said[id(one)].completion_tokens or len(tape.pieces)
        gaps.append((tape.end_s - firsts[-1]) / max(tokens - 1, 1))
    lengths = [float(one.completion_tokens) for one in said.values() if one.completion_tokens]
    listed = default_models().get(name)
    yield f"\n[upstream.models.{_quoted(name)}]  # {len(exchanges)} answers"
    yield f"prompt_usd_per_m = {listed.prompt_usd_per_m if listed else 0.0}"
    yield f"completion_usd_per_m = {listed.completion_usd_per_m if listed else 0.0}"
    yield f"\n[upstream.models.{_quoted(name)}.profile]"
    yield _law("ttft", firsts)
    yield _law("itl", gaps)
    if lengths:
        yield _law("output_tokens", lengths)


def _law(name: str, values: Sequence[float]) -> str:
    law = empirical([max(value, 0.0) for value in values], _POINTS)
    if not isinstance(law, Empirical):
        return f"{name} = {law}"
    return f'{name} = {{ kind = "empirical", quantiles = {list(law.quantiles)} }}'


def _quoted(text: str) -> str:
    """A TOML string; a model's id is the client's own text."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else "?" for c in text) + '"'
