"""What an endpoint tells of itself and of an account: models, credits, what one answer cost.

These pages are asked before and after a run, never during it. None of them is needed for the run:
what an endpoint does not say is None.
"""

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from harness.pipeline.answer import BadAnswerError
from harness.pipeline.client import trust
from harness.pipeline.costs import Price
from harness.pipeline.reading import Body
from harness.pipeline.secret import Secret

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_MOST_BYTES = 50 * 1024 * 1024
_PER_M = 1e6
_T = TypeVar("_T")


class _Pricing(msgspec.Struct):
    prompt: str = ""
    completion: str = ""


class _Model(msgspec.Struct):
    id: str
    pricing: _Pricing | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Credits(msgspec.Struct):
    total_usage: float


class _CreditsPage(msgspec.Struct):
    data: _Credits


class _Generation(msgspec.Struct):
    total_cost: float


class _GenerationPage(msgspec.Struct):
    data: _Generation


class Page(msgspec.Struct, frozen=True):
    """What came of asking: the status, or why there is none; and the body."""

    status: int | None
    why: str
    body: bytes = b""


class Account:
    """Asks an endpoint for its pages.

    Args:
        base_url: such as `https://host/api/v1`.
        key: sent as Bearer token.
        ca_file: of a private authority; None: the system's are trusted.

    Raises:
        InputError: the file cannot be used.
    """

    def __init__(self, base_url: str, key: Secret, ca_file: Path | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._key = key
        self._trust = True if ca_file is None else trust(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust),
            timeout=_TIMEOUT,
            headers={"Authorization": f"Bearer {self._key.reveal()}"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def page(self, path: str, **query: str) -> Page:
        """Ask for one page; whatever goes wrong is told and not raised."""
        if self._session is None:
            raise RuntimeError("an account is asked inside its context")
        url = URL(f"{self._base}/{path}")
        try:
            async with self._session.get(url, params=query, allow_redirects=False) as response:
                body = await Body(response.content, _MOST_BYTES).read()
                return Page(response.status, "", bytes(body))
        except TimeoutError:
            return Page(None, "no answer")
        except (aiohttp.ClientError, BadAnswerError, OSError) as error:
            return Page(None, str(error) or type(error).__name__)

    async def prices(self) -> dict[str, Price] | None:
        """The endpoint's own list, by model id; None when it has none that can be read."""
        found = _read(await self.page("models"), _Models)
        if found is None:
            return None
        prices: dict[str, Price] = {}
        for model in found.data:
            try:
                pricing = model.pricing or _Pricing()
                prompt, completion = float(pricing.prompt), float(pricing.completion)
            except ValueError:
                continue
            prices[model.id] = Price(prompt * _PER_M, completion * _PER_M)
        return prices

    async def used_usd(self) -> float | None:
        """What the account has used since it was opened."""
        found = _read(await self.page("credits"), _CreditsPage)
        return None if found is None else found.data.total_usage

    async def cost_usd(self, generation: str) -> float | None:
        """What one answer was billed, by its id."""
        found = _read(await self.page("generation", id=generation), _GenerationPage)
        return None if found is None else found.data.total_cost


def _read(page: Page, kind: type[_T]) -> _T | None:
    if page.status != 200:
        return None
    try:
        return msgspec.json.decode(page.body, type=kind)
    except (ValueError, RecursionError):
        return None
