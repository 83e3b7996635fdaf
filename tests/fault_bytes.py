"""What the mock's answers look like on the wire, written out by hand, and who reads them there."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from loopback import QUESTION, Mock, mock, post

from mock_llm.config import Profile, Upstream
from mock_llm.faults import Fault
from mock_llm.ledger import Row
from mock_llm.server import EPOCH_S

REPLY = '{"label":"positive","confidence":0.93}'
PIECES = ('{"', "label", '":"', "positive", '","', "confidence", '":', "0", ".", "93", "}")
USUAL = "Server: cloudflare\r\nAccess-Control-Allow-Origin: *\r\n"
KEEP_ALIVE = "\n         \n"
COMMENT = ": OPENROUTER PROCESSING\n\n"
DONE = "data: [DONE]\n\n"
END = "0\r\n\r\n"


class Ids(NamedTuple):
    """What differs from run to run."""

    id: str = ""
    created: str = ""
    ray: str = ""


Said = Callable[[Ids], str]


class Heard(NamedTuple):
    """What came, what became of the connection, and the mock's own row."""

    data: str
    left: Literal["open", "closed", "reset"]
    row: Row


def usage(tokens: int = 8, cost: str = "6.75e-6", said: str = "4.8e-6") -> str:
    """The usage of an answer with a prompt of 13 tokens."""
    prompt = "0.0" if cost == "0.0" else "1.95e-6"
    return (
        f'{{"prompt_tokens":13,"completion_tokens":{tokens},"total_tokens":{13 + tokens},'
        f'"cost":{cost},"is_byok":false,"prompt_tokens_details":{{"cached_tokens":0,'
        '"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0},"cost_details":'
        f'{{"upstream_inference_cost":{cost},"upstream_inference_prompt_cost":{prompt},'
        f'"upstream_inference_completions_cost":{said}}},"completion_tokens_details":'
        '{"reasoning_tokens":0,"image_tokens":0,"audio_tokens":0}}'
    )


FREE = usage(0, "0.0", "0.0")
PROMPT_ONLY = usage(0, "1.95e-6", "0.0")


def answer(
    ids: Ids,
    content: str | None = REPLY,
    *,
    finish: str = '"stop"',
    more: str = "",
    used: str = "",
    choice: bool = True,
) -> str:
    """A non-stream body; `more` is added to its choice."""
    text = json.dumps(content, ensure_ascii=False)
    one = (
        f'{{"index":0,"logprobs":null,"finish_reason":{finish},"native_finish_reason":{finish},'
        f'"message":{{"role":"assistant","content":{text},"refusal":null,"reasoning":null}}{more}}}'
    )
    return (
        f'{{"id":"{ids.id}","object":"chat.completion","created":{ids.created},'
        '"model":"openai/gpt-4o-mini","provider":"OpenAI","system_fingerprint":null,'
        f'"service_tier":null,"choices":[{one if choice else ""}],"usage":{used or usage()}}}'
    )


def event(
    ids: Ids,
    content: str | None = "",
    finish: str = "null",
    more: str = "",
    *,
    choice: bool = True,
) -> str:
    """One event of a stream; `more` is added to it."""
    text = json.dumps(content, ensure_ascii=False)
    one = (
        f'{{"index":0,"delta":{{"role":"assistant","content":{text}}},'
        f'"finish_reason":{finish},"native_finish_reason":{finish}}}'
    )
    return (
        f'data: {{"id":"{ids.id}","object":"chat.completion.chunk","created":{ids.created},'
        f'"model":"openai/gpt-4o-mini","provider":"OpenAI","choices":[{one if choice else ""}]'
        f"{more}}}\n\n"
    )


def last(ids: Ids, content: str | None = "", finish: str = '"stop"', used: str = "") -> list[str]:
    """The finish event and the one with the usage."""
    return [
        event(ids, content, finish),
        event(ids, content, finish, f',"service_tier":null,"usage":{used or usage()}'),
    ]


def texts(ids: Ids, *pieces: str) -> list[str]:
    """Events that carry text."""
    return [event(ids, piece) for piece in pieces]


def head(ids: Ids, kind: str = "application/json", status: str = "200 OK") -> str:
    """Status line and fields of a 200; the blank line is not among them."""
    cached = "Cache-Control: no-cache\r\n" if kind == "text/event-stream" else ""
    known = f"X-Generation-Id: {ids.id}\r\n" if "html" not in kind else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{cached}CF-RAY: {ids.ray}-AMS\r\n"
        f"{known}{USUAL}"
    )


def whole(top: str, body: str, size: int | None = None) -> str:
    """A body behind its length."""
    length = len(body.encode("latin-1")) if size is None else size
    return f"{top}Content-Length: {length}\r\n\r\n{body}"


def chunks(top: str, *parts: str, end: str = END) -> str:
    """A body in chunks."""
    framed = [f"{len(part.encode('latin-1')):x}\r\n{part}\r\n" for part in parts]
    return f"{top}Transfer-Encoding: chunked\r\n\r\n{''.join(framed)}{end}"


def refusal(status: str, error: str, fields: str = "") -> str:
    """An honest error."""
    body = f'{{"error":{error}}}'
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}{USUAL}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )


def page(ids: Ids, status: str, title: str) -> str:
    """Cloudflare's page."""
    body = (
        f'<!DOCTYPE html>\n<html lang="en-US">\n<head><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n"
        f"<p>Cloudflare Ray ID: <strong>{ids.ray}</strong></p></body>\n</html>\n"
    )
    return whole(head(ids, "text/html; charset=UTF-8", status), body)


def ids_of(data: str) -> Ids:
    """What this answer is known by."""
    ray = re.search(r"CF-RAY: (\w+)-AMS", data)
    found = re.search(r"X-Generation-Id: (gen-(\d{10})-\w{20})", data)
    known = Ids(found[1], found[2]) if found else Ids()
    return known._replace(ray=ray[1] if ray else "")


def upstream(*faults: Fault) -> Upstream:
    """A provider that answers at once but for these faults."""
    named = {f"fault {number}": fault for number, fault in enumerate(faults)}
    return Upstream(profile=Profile(ttft=0.0), faults=named, keep_alive_s=0.001)


async def hear(*faults: Fault, stream: bool) -> Heard:
    """Ask once over loopback, and read all that comes until the mock has nothing more to send."""
    epoch_s = EPOCH_S - asyncio.get_running_loop().time()  # whatever the machine's clock says
    async with mock(upstream(*faults), epoch_s=epoch_s) as running:
        client = await running.client()
        client.writer.write(post({**QUESTION, "stream": stream}, X_Request_Key="r1"))
        await _settled(running)
        links = running.links()
        left: Literal["open", "closed", "reset"] = "open" if links else "closed"
        try:
            if links and client.writer.can_write_eof():
                client.writer.write_eof()  # the mock answers it by closing, behind its last byte
            data = await client.reader.read()
        except ConnectionResetError:
            data, left = bytes(client.reader._buffer), "reset"  # type: ignore[attr-defined]
        (row,) = await running.rows(1)
        return Heard(data.decode("latin-1"), left, row)


async def _settled(running: Mock) -> None:
    """Wait until the mock has sent all, and either ended the attempt or fallen silent."""
    while not running.server.ledger.rows:
        if any(link._gone is not None for link in running.links()):
            return
        await asyncio.sleep(0)
    for _ in range(3):  # a connection that is being closed is gone in the next iterations
        await asyncio.sleep(0)
