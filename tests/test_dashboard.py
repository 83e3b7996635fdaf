"""The dashboard in a real browser: its numbers move, and its switches reach the next call."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from browsers import launched
from playwright.sync_api import Browser, Page, expect
from served import serving
from test_mock_process import request


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    with launched() as running:
        yield running


class Dashboard:
    """The page in a tab of its own, and the mock behind it."""

    def __init__(self, page: Page, url: str, link: str) -> None:
        self.page, self.url, self.link = page, url, link
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text))

    def open(self) -> None:
        """Follow the link that the mock prints."""
        self.page.goto(self.link)
        expect(self.page.locator("#state")).to_have_text("running")

    def ask(self) -> int:
        """The status of one call of the mock's API."""
        try:
            with urllib.request.urlopen(request(self.url)) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def switch(self, name: str, *, on: bool) -> None:
        """Throw a switch and wait until the mock has taken it."""
        found = self.page.get_by_role("switch", name=name)
        found.click()
        expect(found).to_have_attribute("aria-checked", str(on).lower())


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, str]]:
    """A mock's address and the link to its dashboard."""
    with serving("--zero-delay") as (process, url):
        assert process.stdout is not None
        process.stdout.readline()
        yield url, process.stdout.readline().split()[-1]


def control(link: str, method: str, path: str, body: object = None) -> object:
    """Ask the mock behind a link for something, past the page."""
    page, _, token = link.partition("#token=")
    fields = {"Authorization": f"Bearer {token}"}
    raw = None if body is None else json.dumps(body).encode()
    url = page.replace("/__dashboard", f"/__control{path}")
    asked = urllib.request.Request(url, raw, fields, method=method)  # noqa: S310
    with urllib.request.urlopen(asked) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture
def dashboard(browser: Browser, served: tuple[str, str]) -> Iterator[Dashboard]:
    """A tab that has not been opened, and a mock that is as it was at its start afterwards."""
    url, link = served
    upstream = control(link, "GET", "/upstream")
    context = browser.new_context(viewport={"width": 390, "height": 844})
    found = Dashboard(context.new_page(), url, link)
    yield found
    context.close()
    control(link, "PUT", "/upstream", upstream)
    control(link, "POST", "/reset")
    assert found.complaints == []


def test_numbers_move(dashboard: Dashboard) -> None:
    """What is asked of the mock is seen on the page, without loading it anew."""
    dashboard.open()
    attempts = dashboard.page.locator("#attempts")
    expect(attempts).to_have_text("0")
    assert [dashboard.ask() for _ in range(3)] == [200] * 3
    expect(attempts).to_have_text("3")
    expect(dashboard.page.locator("#statuses li")).to_have_text(["2003"])
    expect(dashboard.page.locator("#cost")).not_to_have_text("$0.000000")


def test_switch_makes_the_next_call_fail(dashboard: Dashboard) -> None:
    """An outage thrown by keyboard fails the next call and is listed; thrown back, it is over."""
    dashboard.open()
    outage = dashboard.page.get_by_role("switch", name="Outage")
    outage.focus()
    dashboard.page.keyboard.press("Space")
    expect(outage).to_have_attribute("aria-checked", "true")
    statuses = [dashboard.ask()]
    expect(dashboard.page.locator("#fired")).to_contain_text("dashboard_outage")
    expect(dashboard.page.locator("#changes")).to_contain_text("put faults.dashboard_outage")
    dashboard.switch("Outage", on=False)
    statuses.append(dashboard.ask())
    assert statuses == [503, 200]


def test_throttle_counts_what_is_typed(dashboard: Dashboard) -> None:
    """With two requests a minute the third is refused."""
    dashboard.open()
    dashboard.page.get_by_label("Requests a minute before 429").fill("2")
    dashboard.switch("Throttle", on=True)
    assert [dashboard.ask() for _ in range(3)] == [200, 200, 429]


def test_pause_and_hangs_are_seen(dashboard: Dashboard) -> None:
    """The page says that the mock is paused, and shows a share of hangs as it was set."""
    dashboard.open()
    dashboard.switch("Pause", on=True)
    expect(dashboard.page.locator("#state")).to_have_text("paused")
    dashboard.switch("Pause", on=False)
    share = dashboard.page.get_by_label("Share of requests that hang, per cent")
    share.fill("0.5")
    dashboard.switch("Hangs", on=True)
    dashboard.page.reload()
    expect(dashboard.page.get_by_role("switch", name="Hangs")).to_have_attribute(
        "aria-checked", "true"
    )
    expect(share).to_have_value("0.5")
    assert dashboard.ask() == 200


def test_token_is_asked_for(dashboard: Dashboard) -> None:
    """Without the token the page says so and shows nothing; typed in, it opens."""
    page, token = dashboard.page, dashboard.link.rpartition("=")[2]
    page.goto(dashboard.link.partition("#")[0])
    expect(page.locator("#state")).to_have_text("no token")
    expect(page.locator("#board")).to_be_hidden()
    expect(page.get_by_text("The control token is needed.")).to_be_visible()
    page.get_by_label("The control token is needed.").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("That is not this mock's token.")).to_be_visible()
    page.locator("#token").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("running")
    assert dashboard.complaints != []
    assert all("401" in one for one in dashboard.complaints)
    dashboard.complaints.clear()


def test_token_leaves_the_address(dashboard: Dashboard) -> None:
    """The link's token is taken out of the address bar and kept for the tab alone."""
    dashboard.open()
    token = dashboard.link.rpartition("=")[2]
    assert dashboard.page.url == dashboard.link.partition("#")[0]
    assert dashboard.page.evaluate("sessionStorage.getItem('token')") == token
    assert dashboard.page.evaluate("localStorage.length + document.cookie.length") == 0


def test_page_fits_a_telephone_and_escapes(dashboard: Dashboard) -> None:
    """Nothing sticks out of a narrow screen, and a fault's name is text, whatever it looks like."""
    dashboard.open()
    name = "<img src=x onerror=alert(1)>" + "long" * 30
    fault = {"kind": "server_error", "rate": 1, "status": 500}
    put = "([name, fault]) => call('PUT', '/faults/' + encodeURIComponent(name), fault)"
    dashboard.page.evaluate(put, [name, fault])
    assert dashboard.ask() == 500
    expect(dashboard.page.locator("#fired")).to_contain_text(name)
    assert dashboard.page.locator("#board img").count() == 0
    assert dashboard.page.evaluate("document.documentElement.scrollWidth") == 390


def test_an_amount_is_needed(dashboard: Dashboard) -> None:
    """A switch whose amount was emptied is not thrown: it would say on, and do nothing."""
    dashboard.open()
    dashboard.page.get_by_label("Share of requests that get 503, per cent").fill("")
    newest = dashboard.page.locator("#changes li").first
    outage = dashboard.page.get_by_role("switch", name="Outage")
    outage.click()
    dashboard.switch("Pause", on=True)
    dashboard.switch("Pause", on=False)
    expect(newest).to_contain_text("resume")
    assert outage.get_attribute("aria-checked") == "false"
    assert dashboard.page.locator("#changes li").nth(2).inner_text().endswith("reset")


def test_no_figure_sticks_out_and_no_word_is_broken(dashboard: Dashboard) -> None:
    """Small sums stay inside their tile and words of the table whole, on narrow screens as well."""
    out = "[...document.querySelectorAll('.tile dd')].filter(e => e.scrollWidth > e.clientWidth)"
    broken = """[...document.querySelectorAll('table th')].filter(cell => {
        const text = document.createRange();
        text.selectNodeContents(cell);
        const words = cell.textContent.split(' ').length;
        return text.getClientRects().length > words;
    })"""
    dashboard.open()
    assert dashboard.ask() == 200
    expect(dashboard.page.locator("#cost")).not_to_have_text("$0.000000")
    fast = (
        "['p50', 'p95', 'p99'].forEach(id => document.getElementById(id).textContent = '0.97 ms')"
    )
    for width in (390, 1000, 1280):
        dashboard.page.set_viewport_size({"width": width, "height": 900})
        told = f"(() => {{ {fast}; return [...{out}, ...{broken}].map(e => e.textContent); }})()"
        found = dashboard.page.evaluate(told)
        assert found == []
