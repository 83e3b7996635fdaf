"""A browser of this machine, for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIETLY = [
    "--no-sandbox",  # whoever runs tests as root has to
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


expect.set_options(timeout=60_000)  # ms; the usual 5 s are soon over where a machine stands still


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that this machine has; on a build server its absence is a failure."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None and "CI" not in os.environ:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    assert path is not None, "a build server needs a browser, such as Debian's chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=QUIETLY)
        yield running
        running.close()
