"""Everything that is got and not asked of a model: lists of models, and an account's own pages."""

from mock_llm import account_pages, catalogue, envelope, openai_wire
from mock_llm.accounts import Used
from mock_llm.config import Upstream
from mock_llm.envelope import Refusal
from mock_llm.ledger import Ledger
from mock_llm.plan import Route

_LISTS = frozenset({"/models", "/models/user"})
_OWN: dict[str, Route] = {
    "/key": "key",
    "/auth/key": "key",
    "/credits": "credits",
    "/generation": "generation",
}


def route_of(name: str) -> Route:
    """Which of the endpoints has a page, by its path without its prefix."""
    return _OWN.get(name, "models")


class Pages:
    """The pages of one upstream.

    Args:
        upstream: has the models.
        ledger: knows what accounts have used.
        epoch_s: unix time at loop time 0.
    """

    def __init__(self, upstream: Upstream, ledger: Ledger, epoch_s: float) -> None:
        self._upstream, self._ledger, self._epoch_s = upstream, ledger, epoch_s
        self._bare = upstream.dialect == "openai"
        created = int(epoch_s)
        if self._bare:
            self._list = openai_wire.models(upstream.models, created)
        else:
            self._list = catalogue.models(upstream.models, created)

    def get(self, name: str, wanted: str, account: str | Refusal) -> bytes | Refusal | None:
        """Return a page, a refusal of it, or None where there is none.

        Args:
            name: the path without its prefix.
            wanted: the `id` of the query.
            account: who asks, as the ledger has it, or why nobody is known to.
        """
        if name in _LISTS:
            return self._list
        if name.startswith("/models/"):
            return self._model(name.removeprefix("/models/"))
        if name not in _OWN or self._bare:
            return None
        return account if isinstance(account, Refusal) else self._own(name, wanted, account)

    def _model(self, slug: str) -> bytes | None:
        models, created = self._upstream.models, int(self._epoch_s)
        if self._bare:
            known = {one.rpartition("/")[2]: one for one in models}
            found = known.get(slug.rpartition("/")[2])
            return None if found is None else openai_wire.model(found, created)
        slug, _, last = slug.rpartition("/")
        if last != "endpoints" or slug not in models:
            return None
        return catalogue.endpoints(slug, models[slug], created)

    def _own(self, name: str, wanted: str, account: str) -> bytes | Refusal:
        used, balance = self._ledger.accounts.used(account), self._upstream.credits_usd
        if balance is not None:  # which all keys share
            used = Used(billed_usd=self._ledger.totals.billed_usd)
        if name == "/credits":
            return account_pages.credits_of(used, balance)
        if name != "/generation":
            return account_pages.key(account, used, balance)
        found = account_pages.generation(wanted, account, self._ledger, self._epoch_s)
        if found is None:
            return envelope.refusal(404, "not_found", f"Generation {wanted} not found")
        return found
