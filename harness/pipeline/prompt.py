"""The prompt: fixed instructions, earlier exchanges, the review; and its bytes on the wire."""

from collections.abc import Sequence

import msgspec

from harness.pipeline.context import Exchange
from harness.scenario.pipeline import Pipeline

INSTRUCTIONS = """\
You are a careful analyst of product reviews for an online shop. You read one customer review at a \
time and decide whether, taken as a whole, the customer is satisfied with the product or not.

Answer with one JSON object on a single line and nothing else, no prose, no code fence:
{"label": "positive" or "negative", "confidence": a number between 0 and 1 with two digits}

How to decide:
1. Judge the customer's experience with the product itself. Complaints about the courier, the \
packaging or the seller's service count only where the customer lets them decide the verdict.
2. Where praise and criticism are mixed, ask whether this customer would buy the product again and \
follow the answer. A remark after "but", "however" or "although" usually weighs more than the one \
before it.
3. Conditional praise ("it would be great if", "fine as long as") is not praise. Count it as a \
criticism of what is missing.
4. Irony and sarcasm mean the opposite of what they say. Exaggerated praise for a trivial feature \
beside a serious fault is irony.
5. Comparisons speak about the product under review: "not as good as my old one" is negative even \
when the old one is praised at length.
6. Technical specifications are neutral by themselves. They count when the customer says that they \
are met, exceeded or missed.
7. A title that contradicts the text gives way to the text. Star counts quoted from other people \
are to be ignored.
8. Reviews in other languages are judged in the same way; the answer stays in English.

Confidence: 0.95 and above for a clear verdict, about 0.8 where a single mixed remark stands \
against all of the rest, below 0.6 where two careful readers could disagree.

The conversation may hold earlier reviews with their answers. They show the format and the \
scale of confidence, and have no bearing at all on the review that follows."""


class _Message(msgspec.Struct):
    role: str
    content: str


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    stream: bool = False


_ENCODER = msgspec.json.Encoder()


def contents(settings: Pipeline, exchanges: Sequence[Exchange], review_text: str) -> list[str]:
    """The prompt's texts in the order of its messages."""
    texts = [INSTRUCTIONS if settings.instructions is None else settings.instructions]
    for exchange in exchanges:
        texts += (exchange.prompt, exchange.reply)
    texts.append(review_text)
    return texts


def encode(
    settings: Pipeline, model: str, exchanges: Sequence[Exchange], review_text: str
) -> bytes:
    """The request's body."""
    texts = contents(settings, exchanges, review_text)
    messages = [_Message("system", texts[0])]
    for at, text in enumerate(texts[1:]):
        messages.append(_Message("assistant" if at % 2 else "user", text))
    return _ENCODER.encode(
        _Request(model, messages, max_tokens=settings.max_tokens, stream=settings.stream)
    )
