"""The trap: eight fixed reviews, cycled. A cache hits nearly always, and it means nothing."""

from harness.corpus.review import Label, Review

_TEMPLATES: tuple[tuple[Label, str, str], ...] = (
    (
        "positive",
        "Excellent sound",
        (
            "These headphones sound wonderful and the battery easily lasts the 30 hours on the"
            " box. I wear them on the train every day and the ear cups stay comfortable. Highly"
            " recommended."
        ),
    ),
    (
        "negative",
        "Stopped working",
        (
            "The charger worked for two weeks and then died without warning. Support asked for"
            " photos, then for a video, and then stopped answering. A waste of money. Do not buy"
            " it."
        ),
    ),
    (
        "positive",
        "Good, but not perfect",
        (
            "The picture is bright and sharp, although the menus are slow and the remote feels"
            " cheap. However, for this price I have not seen anything better, and I would buy it"
            " again."
        ),
    ),
    (
        "negative",
        "Great idea, poor execution",
        (
            "I wanted to love this keyboard. The layout is great and it looks lovely on my"
            " desk, but two keys stick, the cable is loose and the software crashes every"
            " morning. Returned it."
        ),
    ),
    (
        "positive",
        "Five stars",
        (
            "Easy to set up, fast, and quiet enough for the bedroom. We replaced a router that"
            " was ten years old and now even the garage has a signal. My whole family is happy."
        ),
    ),
    (
        "negative",
        "Not as described",
        (
            "The listing promises 1080p video but mine records at 720p, and the picture is"
            " grainy after sunset. If you only need it by day it may be enough. I was"
            " disappointed."
        ),
    ),
    (
        "positive",
        "Survived my toddler",
        (
            "This tablet has been dropped down the stairs, chewed, and left in the rain. It"
            " still works perfectly. The screen has one scratch, yet the touch is as responsive"
            " as on day one."
        ),
    ),
    (
        "negative",
        "Uncomfortable and tinny",
        (
            "Compared with my old earbuds these are heavier, they hurt after an hour, and the"
            " bass is missing. The case is nice, though. I gave them to my brother, who gave"
            " them back."
        ),
    ),
)


def templates8(count: int) -> tuple[Review, ...]:
    """The eight templates in turn, ``count`` reviews in all; ids differ, texts do not."""
    return tuple(_review(n) for n in range(count))


def _review(n: int) -> Review:
    label, title, content = _TEMPLATES[n % len(_TEMPLATES)]
    return Review(
        id=f"templates8-{n}", title=title, content=content, category="electronics", label=label
    )
