"""A key that does not show itself."""


class Secret:
    """A text that appears in no representation of anything that holds it.

    It is no `str`, so that it can be neither formatted, nor encoded, nor written by mistake.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(...)"

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._text
