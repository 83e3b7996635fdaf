"""A script played by hand: what goes out when, if the provider takes no longer than planned."""

from math import inf

from mock_llm.pacing import Write
from mock_llm.playback import Playback
from mock_llm.timeline import Script


def played(script: Script, start_s: float = 0.0, limit: int = 100_000) -> list[Write]:
    """Everything that is sent, keep-alives too, in order of time; at most so many of them."""
    playback, sent, tokens = Playback(script, start_s), list[Write](), 0
    while len(sent) < limit:
        write, tick_s = playback.write, playback.tick_s
        due_s = inf if write is None else start_s + write.at_s
        if write is not None and due_s <= tick_s:
            tokens = write.tokens
            sent.append(Write(due_s, playback.content(write, due_s), tokens))
        elif tick_s < inf:
            sent.append(Write(tick_s, playback.tick(), tokens))
        else:
            break
    return sent
