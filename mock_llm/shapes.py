"""The one place that knows two dialects: OpenRouter's and OpenAI's own."""

from mock_llm import framing, openai_wire, wire
from mock_llm.envelope import Refusal
from mock_llm.plan import Call, Plan
from mock_llm.wire import Events, Identity, Style, encode


def completion(who: Identity, call: Call, plan: Plan, completion_usd: float) -> bytes:
    """Body of a non-stream 200."""
    if who.style.dialect == "openai":
        return openai_wire.completion(who, call, plan)
    return wire.completion(who, call, plan, completion_usd)


def events(who: Identity, call: Call, plan: Plan, completion_usd: float) -> Events:
    """The events of a stream, all but the text."""
    if who.style.dialect == "openai":
        return openai_wire.events(who, call, plan)
    return wire.events(who, call, plan, completion_usd)


def marks(who: Identity, call: Call, plan: Plan) -> bytes:
    """Header fields that tell one answer from another."""
    if who.style.dialect == "openai":
        ready_s = plan.first_token_s if call.stream else plan.last_token_s
        return who.style.fields + openai_wire.marks(who.id, ready_s)
    return framing.marks(who)


def refusal(made: Refusal, style: Style, salt: str) -> Refusal:
    """An error as it is spoken.

    Args:
        made: in OpenRouter's envelope.
        style: what is spoken.
        salt: of the request's id.
    """
    if style.dialect == "openai":
        return openai_wire.refusal(made, style, salt)
    if style.user_id is None:
        return made
    body = made.body[:-1] + b',"user_id":' + encode(style.user_id) + b"}"
    return Refusal(made.status, made.error, made.fields, body)


def frames(style: Style) -> tuple[framing.Framing, framing.Framing, framing.Framing]:
    """Framing for a connection that goes on, one that ends, and a client of HTTP/1.0."""
    usual = framing.Framing().usual if style.dialect == "openrouter" else b""
    return (
        framing.Framing(usual=usual),
        framing.Framing(close=True, usual=usual),
        framing.Framing(chunked=False, close=True, usual=usual),
    )
