"""Tokens of a job's prompts before any call is made."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from harness.corpus.review import Review
from harness.pipeline.prompt import contents
from harness.scenario.pipeline import Pipeline

# What a classifier's reply looks like, for its share in later prompts.
REPLY = '{"label":"positive","confidence":0.93}'


def prompt_tokens(
    settings: Pipeline,
    reviews: Sequence[Review],
    count: Callable[[str], int],
    chat: Callable[[Sequence[str], Callable[[str], int]], int],
    reply_tokens: float,
) -> list[int]:
    """Tokens of every request's prompt, were they served one by one in input order.

    Args:
        settings: instructions and context mode.
        reviews: in input order.
        count: tokens of a text.
        chat: tokens of a list of message texts, overhead included.
        reply_tokens: of an earlier answer that goes along.
    """
    texts = [count(review.text) for review in reviews]
    fixed = chat([*contents(settings, [], ""), ""], count)
    overhead = chat(["", ""], count) - chat([""], count)
    reply = round(reply_tokens) + overhead
    before = [0, *accumulate(text + overhead + reply for text in texts)]
    fixed -= overhead  # the empty last message above
    return [
        fixed + texts[n] + before[n] - before[first_sent(settings, n)] for n in range(len(texts))
    ]


def first_sent(settings: Pipeline, n: int) -> int:
    """Index of the oldest exchange that goes along with request n."""
    if settings.context is None:
        return n
    return 0 if settings.context == "send_all" else max(0, n - settings.context_exchanges)
