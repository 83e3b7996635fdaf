"""The tab in Locust's web UI, in a real browser: a switch is thrown, and users' requests fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from browsers import launched
from commands import mentioning
from locusts import SMALL, Locust, free_port, locust
from playwright.sync_api import Browser, FrameLocator, Page, expect

LINK = r"http://127\.0\.0\.1:\d+/\?tab=flight#token=\S+"
WIDTHS = (390, 1280)
OUT = "[...document.querySelectorAll('.card')].filter(e => e.scrollWidth > e.clientWidth).length"


class Running(NamedTuple):
    """A load test with a web UI, and the link that it has printed."""

    link: str
    process: Locust
    folder: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A small load test that goes on until it is ended."""
    folder = tmp_path_factory.mktemp("web")
    scenario = folder / "small.toml"
    longer = SMALL.replace("users = 31", "users = 5").replace("duration_s = 5", "duration_s = 600")
    scenario.write_text(longer)
    place = ["--web-host", "127.0.0.1", "--web-port", str(free_port())]
    with locust(folder, "web", "--scenario", str(scenario), "--autostart", *place) as process:
        link = process.until(LINK)
        process.until("All users spawned")
        yield Running(link, process, folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser."""
    with launched() as found:
        yield found


class Ui:
    """Locust's page in a tab of its own."""

    def __init__(self, page: Page) -> None:
        self.page, self.complaints = page, list[str]()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    @property
    def flight(self) -> FrameLocator:
        """What is under the tab."""
        return self.page.frame_locator("iframe[title=Flight]")


@pytest.fixture
def ui(browser: Browser) -> Iterator[Ui]:
    """A page that has not been opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = Ui(context.new_page())
    yield found
    context.close()
    assert found.complaints == []


def test_a_switch_makes_requests_fail(ui: Ui, running: Running) -> None:
    """An outage is thrown in the tab, failures are counted there by cause; then it is over."""
    ui.page.goto(running.link)
    flight = ui.flight
    expect(flight.locator("#state")).to_have_text("running")
    expect(flight.locator("#ok")).not_to_have_text("0")
    expect(flight.locator("#certificate")).to_contain_text("p99")
    outage = flight.get_by_role("switch", name="Outage")
    outage.click()
    expect(outage).to_have_attribute("aria-checked", "true")
    expect(flight.locator("#failed")).not_to_have_text("0")
    expect(flight.locator("#causes")).to_contain_text("failed: server error")
    outage.click()
    expect(outage).to_have_attribute("aria-checked", "false")
    assert "token" not in ui.page.url


def test_the_tab_comes_and_goes(ui: Ui, running: Running) -> None:
    """Another tab of Locust's hides it, its own brings it back, and it fits narrow screens."""
    ui.page.goto(running.link)
    expect(ui.flight.locator("#board")).to_be_visible()
    ui.page.get_by_role("tab", name="Charts").click()
    expect(ui.page.locator("iframe[title=Flight]")).to_have_count(0)
    ui.page.get_by_role("tab", name="Flight").click()
    expect(ui.flight.locator("#board")).to_be_visible()
    sticking = []
    for width in WIDTHS:
        ui.page.set_viewport_size({"width": width, "height": 900})
        sticking.append(ui.page.frames[-1].evaluate(OUT))
    assert sticking == [0, 0]


def test_the_token_is_asked_for(ui: Ui, running: Running) -> None:
    """Without the link's token nothing is told, and the page asks for it."""
    place = urlsplit(running.link)
    ui.page.goto(f"http://{place.netloc}/flight")
    expect(ui.page.locator("#state")).to_have_text("no token")
    expect(ui.page.locator("#board")).to_be_hidden()
    ui.page.locator("#token").fill(place.fragment.removeprefix("token="))
    ui.page.keyboard.press("Enter")
    expect(ui.page.locator("#state")).to_have_text("running")
    assert ui.page.locator("#board").is_visible()


def test_nothing_is_left(running: Running) -> None:
    """The token is in no log that Locust shows, and its end is the end of all that it started."""
    token = running.link.rpartition("=")[2]
    assert running.process.said.count(token) == 1
    running.process.running.terminate()
    assert running.process.code() == 130
    assert mentioning(str(running.folder)) == []
