"""`victor otel top`: pages of processes as tables, by keys, and plain."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Footer, Static, TabbedContent

from tests.kit.browser import browser
from tests.kit.processes import environment, free_port
from tests.kit.terminal import terminal
from victor_otel.top.app import Top
from victor_otel.top.scrape import ScrapeError, Scraper, address

COMMAND = str(Path(sys.executable).with_name("victor-otel"))
PAGE = """
victor_requests_total{interface="cli",status="success"} 7.0
victor_requests_total{interface="cli",status="failure"} 2.0
victor_requests_total{interface="api",status="success"} 12.0
victor_requests_in_flight{interface="cli"} 1.0
victor_tool_executions_total{tool="read",status="success",vertical="none",mode="build"} 1500.0
victor_tool_executions_total{tool="read",status="timeout",vertical="none",mode="build"} 1.0
victor_tool_executions_total{tool="ls",status="failure",vertical="none",mode="build"} 3.0
victor_tool_execution_duration_seconds_count{tool="ls",vertical="none",status="failure"} 3.0
victor_tool_execution_duration_seconds_sum{tool="ls",vertical="none",status="failure"} 0.006
victor_tool_execution_duration_seconds_count{tool="read",vertical="none",status="success"} 2.0
victor_tool_execution_duration_seconds_sum{tool="read",vertical="none",status="success"} 3.0
victor_provider_tokens_total{provider="openai",model="m",type="input"} 320.0
victor_provider_tokens_total{provider="openai",model="m",type="cache_read"} 64.0
victor_memory_usage_bytes{component="process"} 309329920.0
victor_memory_limit_bytes 1073741824.0
"""

# The page draws its terminal as a picture, and keeps it to itself.
KEEP_THE_TERMINAL = """
Object.defineProperty(Object.prototype, "terminal", {
    set(value) {
        Object.defineProperty(this, "terminal", {value});
        window.terminal = value;
    },
});
"""
SHOWS = """pattern => {
    const {active} = window.terminal.buffer;
    const lines = Array.from({length: active.length}, (_, row) => active.getLine(row));
    return lines.some(line => line.translateToString().match(pattern));
}"""


class Server:
    """Serves `page`, which may change."""

    def __init__(self) -> None:
        self.page = PAGE
        serves = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = serves.page.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"


@pytest.fixture
def served() -> Iterator[Server]:
    made = Server()
    with made.server:
        thread = threading.Thread(target=made.server.serve_forever)
        thread.start()
        yield made
        made.server.shutdown()
        thread.join()


def shown(app: Top, tab: str) -> list[list[str]]:
    table = app.query_one(f"#{tab} DataTable", DataTable)
    return [[str(cell) for cell in table.get_row_at(row)] for row in range(table.row_count)]


async def until(app: Top, pilot: Any, tab: str, expected: list[list[str]]) -> None:
    for _ in range(100):
        if shown(app, tab) == expected:
            return
        await pilot.pause(0.05)
    assert shown(app, tab) == expected


async def test_each_tab_has_a_row_for_what_it_is_about(served: Server) -> None:
    app = Top(Scraper(), [served.url], 0.2)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(app, pilot, "Requests", [["api", "12", "", "", ""], ["cli", "9", "2", "1", ""]])
        assert shown(app, "Tools") == [
            ["read", "1,501", "1", "", "1.5 s"],
            ["ls", "3", "3", "", "2 ms"],
        ]
        assert shown(app, "Tokens") == [["openai", "m", "320", "", "", "64", ""]]
        assert shown(app, "Errors") == []


async def test_the_numbers_move(served: Server) -> None:
    app = Top(Scraper(), [served.url], 0.2)
    async with app.run_test() as pilot:
        await until(app, pilot, "Requests", [["api", "12", "", "", ""], ["cli", "9", "2", "1", ""]])
        served.page = PAGE.replace(" 12.0", " 13.0")
        await until(app, pilot, "Requests", [["api", "13", "", "", ""], ["cli", "9", "2", "1", ""]])


async def test_keys_choose_the_tab_sort_and_reverse(served: Server) -> None:
    app = Top(Scraper(), [served.url], 60)
    by_calls = [["read", "1,501", "1", "", "1.5 s"], ["ls", "3", "3", "", "2 ms"]]
    async with app.run_test() as pilot:
        await until(app, pilot, "Tools", by_calls)
        await pilot.press("2")
        assert app.query_one(TabbedContent).active == "Tools"
        await pilot.press("s")
        assert [row[0] for row in shown(app, "Tools")] == ["ls", "read"]
        await pilot.press("r")
        assert [row[0] for row in shown(app, "Tools")] == ["read", "ls"]
        await pilot.press("s", "s", "r")
        assert [row[2] for row in shown(app, "Tools")] == ["3", "1"]


async def test_several_processes_have_a_column_that_tells_them_apart(served: Server) -> None:
    gone = f"http://127.0.0.1:{free_port()}/metrics"
    app = Top(Scraper(), [served.url, gone], 60)
    async with app.run_test() as pilot:
        await until(app, pilot, "Tokens", [[served.url, "openai", "m", "320", "", "", "64", ""]])
        problem = app.query_one("#problem", Static)
        said, footer = str(problem.render()), app.query_one(Footer)
        # Seen without scrolling.
        assert problem.region.bottom == footer.region.y == app.size.height - 1
    assert said.startswith(f"{gone} does not answer: Connection refused.")


def test_plainly_it_prints_what_is_not_zero(served: Server) -> None:
    done = subprocess.run(
        [COMMAND, "top", "--once", served.url], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[0] == served.url
    assert any("requests" in line and "21 success 19, failure 2" in line for line in lines)
    assert any("memory usage" in line and "295 MiB of 1 GiB" in line for line in lines)


def test_in_a_terminal_without_tabs_the_numbers_move(served: Server) -> None:
    command = (COMMAND, "top", "--plain", "--interval=0.2", served.url)
    with terminal(command, environment()) as seen:
        seen.until(lambda lines: any("requests" in line and " 21 " in line for line in lines))
        served.page = PAGE.replace(" 12.0", " 13.0")
        seen.until(lambda lines: any("requests" in line and " 22 " in line for line in lines))


def test_in_a_browser_there_are_the_same_tabs_and_the_numbers_move(served: Server) -> None:
    port = free_port()
    command = [COMMAND, "top", f"--serve={port}", "--interval=0.2", served.url]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as serving,
        ExitStack() as stack,
        browser() as page,
    ):
        stack.callback(serving.terminate)
        assert serving.stdout is not None
        assert any(b"to quit" in line for line in serving.stdout)
        page.add_init_script(KEEP_THE_TERMINAL)
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_function(SHOWS, arg="api .* 12 ")
        served.page = PAGE.replace(" 12.0", " 13.0")
        page.wait_for_function(SHOWS, arg="api .* 13 ")
        page.locator(".textual-terminal").click()
        page.keyboard.press("2")
        page.wait_for_function(SHOWS, arg="read .* 1,501 .* 1\\.5 s")


@pytest.mark.parametrize("form", ["", "127.0.0.1:", "http://127.0.0.1:", "localhost:"])
def test_a_port_is_address_enough(served: Server, form: str) -> None:
    assert Scraper().read(address(f"{form}{served.server.server_port}"))


@pytest.mark.parametrize(
    ("page", "problem"),
    [("<html>", "is no page of Prometheus metrics"), ("up 1\n", "has no metric of Victor's")],
)
def test_what_is_no_page_of_victors_is_told(served: Server, page: str, problem: str) -> None:
    served.page = page
    with pytest.raises(ScrapeError, match=problem):
        Scraper().read(served.url)
