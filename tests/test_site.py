"""The site: it says what the pages say on GitHub, its links lead somewhere, it asks no other host."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Page

from tests.kit.browser import SIZE, browser
from tools import site
from tools.paths import ROOT

REFERENCE = "docs/reference.md"
COUNTED = {*("h1", "h2", "h3", "h4", "ol", "ul", "li", "pre", "table", "tr", "th", "td", "img")}
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


class Content(HTMLParser):
    """The text of a page without white space, how many it has of each element, and its addresses."""

    def __init__(self, html: str, *, within: str = "") -> None:
        super().__init__()
        self.text = ""
        self.elements: Counter[str] = Counter()
        self.loads: set[str] = set()
        self._within = within
        self._inside = not within
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._inside |= tag == self._within
        if self._inside and tag in COUNTED:
            self.elements[tag] += 1
        if tag in {"img", "script", "iframe", "source"}:
            self.loads.add(given.get("src") or "")
        if tag == "link" and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loads.add(given["href"])

    def handle_endtag(self, tag):
        self._inside &= tag != self._within

    def handle_data(self, data):
        if self._inside:
            self.text += "".join(data.split()).replace("¶", "")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def built() -> Path:
    site.build()
    return site.SITE


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The hosts that the tab has asked."""
    return set()


@pytest.fixture(scope="module")
def tab(built: Path, asked: set[str]) -> Iterator[Page]:
    """A browser's tab with the site in it."""
    handler = partial(Quiet, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser() as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page.goto(f"http://127.0.0.1:{server.server_port}", wait_until="networkidle")
        yield page
        server.shutdown()


def address(page: str) -> str:
    """Where a page is in the site."""
    return page.removesuffix("README.md").removesuffix(".md")


def test_each_page_says_what_it_says_on_github(built: Path) -> None:
    commonmark = MarkdownIt("commonmark").enable("table")
    pages = [page for page in site.shown(".md") if page != REFERENCE]
    assert len(pages) > 100
    for page in pages:
        html = Path(built, address(page), "index.html").read_text(encoding="utf-8")
        here = Content(html, within="article")
        there = Content(commonmark.render((ROOT / page).read_text(encoding="utf-8")))
        assert (page, here.elements) == (page, there.elements)
        assert (page, here.text) == (page, there.text)


def test_the_reference_has_the_names_that_an_application_imports(built: Path) -> None:
    html = Path(built, "docs/reference/index.html").read_text(encoding="utf-8")
    text = Content(html, within="article").text
    for signature in (
        "start(meter_provider:MeterProvider|None=None)->None",
        "search_accuracy(relevant:int,retrieved:int)->None",
        "add(value:float=1,/,**labels:str)->None",
        "MetricsMiddleware(collector:MetricsCollector)",
    ):
        assert signature in text
    assert "_declare" not in text


def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    loads = {
        each
        for path in built.rglob("*.html")
        for each in Content(path.read_text(encoding="utf-8")).loads
    }
    assert {each for each in loads if urlsplit(each).netloc} == set()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_fits_the_window_and_asks_no_other_host(
    tab: Page, asked: set[str], width: int
) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    for page in ("", "docs/metrics/", "docs/reference/", "docs/backends/", "docs/alerts/"):
        tab.goto(urljoin(tab.url, f"/{page}"), wait_until="networkidle")
        assert (page, tab.evaluate(FITS)) == (page, True)
    assert asked == {urlsplit(tab.url).netloc}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("HighErrorRate", "/deploy/runbooks/HighErrorRate/?h=HighErrorRate"),
        ("error rate", "/deploy/runbooks/HighErrorRate/?h=error+rate"),
        ("tool executions", "/docs/metrics/?h=tool+executions#victor_tool_executions_total"),
    ],
)
def test_the_search_finds_first(tab: Page, words: str, found: str) -> None:
    tab.set_viewport_size(SIZE)
    tab.goto(urljoin(tab.url, "/"), wait_until="networkidle")
    tab.get_by_role("button", name="Search").click()
    tab.get_by_role("combobox", name="Search").fill(words)
    assert tab.locator("dialog a").first.get_attribute("href") == urljoin(tab.url, found)


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("alerts.md", "alerts.md"),
        ("alerts.md#change-a-threshold", "alerts.md#change-a-threshold"),
        ("#overview", "#overview"),
        ("pictures/top.png", "pictures/top.png"),
        ("https://prometheus.io/", "https://prometheus.io/"),
        ("../collector", "../collector/README.md"),
        ("../deploy/", "../deploy/README.md"),
        ("../deploy/runbooks", f"{site.REPOSITORY}/tree/main/deploy/runbooks"),
        ("../LICENSE", f"{site.REPOSITORY}/blob/main/LICENSE"),
        ("../tools/site.py#L1", f"{site.REPOSITORY}/blob/main/tools/site.py#L1"),
    ],
)
def test_a_link_leads_to_a_page_or_else_to_github(link: str, becomes: str) -> None:
    assert site.linked(f"See [it]({link}).", "docs/guide.md") == f"See [it]({becomes})."


@pytest.mark.parametrize("text", ["[it](nothing.md)", "![it](../nothing.png)", "[it](/LICENSE)"])
def test_a_link_to_nothing_is_told(text: str) -> None:
    with pytest.raises(SystemExit, match=r"docs/guide\.md: nothing is at .*"):
        site.linked(text, "docs/guide.md")


def test_what_looks_like_a_link_in_code_is_left() -> None:
    text = "```python\nreaders[0](LICENSE)\n```\n"
    assert site.linked(text, "README.md") == text


def test_a_page_that_is_not_in_the_navigation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [*site.shown(".md"), "docs/new.md"]
    monkeypatch.setattr(site, "shown", lambda *_: pages)
    with pytest.raises(SystemExit, match=r"zensical\.toml: docs/new\.md$"):
        site.configuration()


def test_a_heading_that_is_not_there_fails_the_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(site, "FOLDER", tmp_path / "pages")
    monkeypatch.setattr(site, "linked", lambda text, _: f"{text}\n[it](docs/alerts.md#nothing)\n")
    with pytest.raises(subprocess.CalledProcessError):
        site.build()
