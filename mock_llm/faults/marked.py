"""The one character beyond ASCII that the faults of encoding need."""

MARK = "\N{CHECK MARK}"


def marked(reply: str) -> str:
    """Return the reply with the mark; a classifier's JSON stays JSON with the same label."""
    if MARK in reply or not reply:
        return reply
    if reply.endswith("}"):
        return f'{reply[:-1]},"mark":"{MARK}"}}'
    return f"{reply} {MARK}"
