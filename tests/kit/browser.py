"""A page in a real browser, without a window: what a person would see of it."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}


@contextmanager
def browser() -> Generator[Page]:
    """A tab of the machine's Chromium: it reaches this machine alone, whatever a page asks for."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert program, "Chromium is missing: apt-get install chromium, or any build of it on PATH"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-proxy-server"])
        page = chromium.new_page(viewport=SIZE)
        page.set_default_timeout(90_000)  # a busy machine
        page.route(lambda url: urlsplit(url).hostname not in {"127.0.0.1", "localhost"}, _refuse)
        yield page
        chromium.close()


def _refuse(route: Route) -> None:
    route.abort()
