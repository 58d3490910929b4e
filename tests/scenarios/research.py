"""Research: searches and pages from a web on this machine, citations, an answer put together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.scenarios.scenario import Count, Scenario
from victor_otel import record
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall
from victor_otel.victor.verticals.research import CITATIONS, SEARCHES, SOURCES, SYNTHESIS_DURATION

ARTICLE = f"<html><body><main>{'Rivers carry water to the sea. ' * 20}</main></body></html>"
RESULTS = "".join(
    f'<div class="result"><a class="result__a" href="http://127.0.0.1/{number}">Rivers</a></div>'
    for number in range(3)
)
LITE_RESULTS = (
    '<table><tr class="result-link"><td><a href="http://127.0.0.1/0">R</a></td></tr></table>'
)


def html(query: str) -> tuple[int, str]:
    """What the first search endpoint answers, as the query asks it to."""
    status = {"down": 503, "limited": 202, "half": 503}.get(query.split(maxsplit=1)[0], 200)
    found = status == 200 and not query.startswith(("nothing", "lite"))
    return status, RESULTS if found else "<html></html>"


def lite(query: str) -> tuple[int, str]:
    """What the second one answers, which Victor asks if the first had no results."""
    status = 503 if query.startswith(("down", "limited")) else 200
    return status, LITE_RESULTS if query.startswith("lite") else "<html></html>"


class Page(BaseHTTPRequestHandler):
    answer: Callable[[str], tuple[int, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.reply(*type(self).answer(parse_qs(body)["q"][0]))

    def do_GET(self) -> None:
        pages = {"article": (200, ARTICLE), "blank": (200, "<html></html>")}
        self.reply(*pages.get(self.path.split("/")[1], (404, "")))

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    page = type("Page", (Page,), {"answer": staticmethod(answer)})
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextlib.asynccontextmanager
async def small_web() -> AsyncIterator[str]:
    """A web on this machine instead of DuckDuckGo, whose addresses Victor has as constants.

    Pages are on the second host: Victor asks one host every six seconds only.
    """
    from victor.tools import web_search_tool as web
    from victor.tools.http_pool import HttpConnectionPool

    names = ("_DDG_HTML_URL", "_DDG_LITE_URL", "_GENERIC_WEB_CACHE", "_RATE_LIMITER")
    before = {name: getattr(web, name) for name in names}
    await HttpConnectionPool.close_instance()
    with served(html) as first, served(lite) as second:
        web._DDG_HTML_URL, web._DDG_LITE_URL = first, second
        web._GENERIC_WEB_CACHE = None
        try:
            yield second
        finally:
            await HttpConnectionPool.close_instance()
            for name, value in before.items():
                setattr(web, name, value)


def hurry() -> None:
    """Victor need not wait before it asks the same host again."""
    from victor.tools import web_search_tool as web

    web._get_rate_limiter().reset()


async def search(function: Any, *args: Any, **options: Any) -> Any:
    hurry()
    answer = await function(*args, **options)
    # A tool gives a ToolResult, the function what is in it.
    return getattr(answer, "output", answer)


def caching() -> Any:
    from victor.tools.base import ToolConfig

    return {"tool_config": ToolConfig(generic_result_cache_enabled=True)}


def registry(*tools: Any) -> Any:
    from victor.tools.registry import ToolRegistry

    made = ToolRegistry()
    for tool in tools:
        made.register(tool.Tool)
    return made


async def searches(count: Count) -> None:
    """Searches that find something, find nothing, reach nobody, and are answered by a cache."""
    from victor.tools.unified.web_tool import web_tool
    from victor.tools.web_search_tool import web_search

    def ended(status: str) -> None:
        count.add("victor_research_searches_total", status=status)

    async with small_web() as url:
        assert (await search(web_search, "rivers"))["result_count"] == 3
        ended("results")
        assert (await search(web_search.Tool.execute, {}, query="rivers"))["result_count"] == 3
        ended("results")
        tools = registry(web_search, web_tool)
        found = await search(tools.execute, "web_search", {}, query="lite rivers")
        assert found["result_count"] == 1
        ended("results")
        assert "Rivers" in await search(tools.execute, "web", {}, cmd="web search rivers")
        ended("results")

        for query in ("nothing", "half of it"):  # of two endpoints both answer, or one does
            assert (await search(web_search, query))["result_count"] == 0
            ended("empty")

        # Victor calls it a success without results.
        for query in ("down", "limited"):
            assert (await search(web_search, query))["success"]
            ended("error")
        # And what it makes of a summary without a model raises.
        with contextlib.suppress(TypeError):
            await search(web_search, "rivers", ai_summarize=True)
        ended("error")

        again = {"query": f"rivers near {url}", "_exec_ctx": caching()}
        assert "cached" not in await search(web_search, **again)
        ended("results")
        assert (await search(web_search, **again))["cached"]
        assert not (await search(web_search, ""))["success"]  # nothing to search for
    async with unplugged():
        assert (await search(web_search, "rivers"))["success"]
        ended("error")


@contextlib.asynccontextmanager
async def unplugged() -> AsyncIterator[None]:
    """Nobody listens where the search endpoints were."""
    from victor.tools import web_search_tool as web

    async with small_web():
        with served(html) as first, served(lite) as second:
            pass
        web._DDG_HTML_URL, web._DDG_LITE_URL = first, second
        yield


async def sources(count: Count) -> None:
    """Pages fetched by every way, failing and cached; and what a conversation keeps track of."""
    from victor.tools.unified.web_tool import web_tool
    from victor.tools.web_search_tool import web_fetch
    from victor_research.conversation_enhanced import EnhancedResearchConversationManager

    def analyzed(number: int = 1) -> None:
        count.add("victor_research_sources_analyzed_total", number)

    async with small_web() as url:
        article = f"{url}article"
        assert (await search(web_fetch, article))["success"]
        analyzed()
        assert (await search(web_fetch.Tool.execute, {}, url=f"{article}/2"))["success"]
        analyzed()
        tools = registry(web_fetch, web_tool)
        assert (await search(tools.execute, "web_fetch", {}, url=f"{article}/3"))["success"]
        analyzed()
        assert "Rivers" in await search(tools.execute, "web", {}, cmd=f"web fetch {article}/4")
        analyzed()
        for wrong in (f"{url}missing", f"{url}blank", "", "no-protocol"):
            assert not (await search(web_fetch, wrong))["success"]
        once = {"url": f"{article}/5", "_exec_ctx": caching()}
        assert "cached" not in await search(web_fetch, **once)
        analyzed()
        assert (await search(web_fetch, **once))["cached"]

        conversation = EnhancedResearchConversationManager()
        conversation.track_data_source(article, "web")  # fetched above
        conversation.track_data_source("Census of rivers", "dataset")
        analyzed()
        conversation.track_data_source(source=f"{article}/6", source_type="web")
        analyzed()
        assert (await search(web_fetch, f"{article}/6"))["success"]  # tracked above


BOOK = {"authors": ["A", "B", "C", "D"], "year": 1999, "title": "Rivers", "source": "Press"}
WORKFLOW = """
workflows:
  references:
    nodes:
      - {id: list, type: transform, transform: format_bibliography}
"""


async def cite(references: Any, style: str = "apa") -> Any:
    """As a workflow's compute node calls the handler."""
    from victor.workflows.context import WorkflowContext
    from victor.workflows.definition import ComputeNode
    from victor_research.handlers import HANDLERS

    inputs = {"references": "books", "style": style}
    node = ComputeNode(id="cite", name="cite", input_mapping=inputs, output_key="cited")
    context = WorkflowContext(data={"books": references} if references else {})
    return await HANDLERS["citation_formatter"](node, context, None)


async def bibliography(sources: list[Any]) -> Any:
    """By a workflow, which takes the function from the vertical's table."""
    from victor.workflows.unified_executor import StateGraphExecutor
    from victor.workflows.yaml_loader import YAMLWorkflowConfig, load_workflow_from_yaml
    from victor_research.escape_hatches import TRANSFORMS

    loaded = load_workflow_from_yaml(
        WORKFLOW, "references", config=YAMLWorkflowConfig(transform_registry=TRANSFORMS)
    )
    result = await StateGraphExecutor().execute(loaded, {"validated_sources": sources})
    assert result.success
    return result.state


async def citations(count: Count) -> None:
    """References formatted by a handler, by a workflow and by hand."""
    from victor_research.escape_hatches import format_bibliography

    def generated(number: int) -> None:
        count.add("victor_research_citations_generated_total", number)

    for style in ("apa", "mla", "chicago", "another"):
        assert (await cite([BOOK, BOOK, "As heard"], style)).output["count"] == 3
        generated(3)
    assert (await cite(BOOK)).output["count"] == 1
    generated(1)
    # Victor makes one citation, "None", of references that are not there.
    assert (await cite(None)).output["citations"] == ["None"]
    assert (await cite([{"authors": 5}])).output is None  # fails

    assert format_bibliography({"validated_sources": [BOOK, "no source", BOOK]})["count"] == 2
    generated(2)
    assert format_bibliography({})["count"] == 0
    assert (await bibliography([BOOK, BOOK]))["count"] == 2
    generated(2)


ANSWER = "Rivers carry water to the sea, as the article says that was found and read."


async def ask(model: ScriptedModel, name: str, vertical: str | None) -> str:
    """One question to an agent of its own."""
    from victor.core.bootstrap import ensure_bootstrapped
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    ensure_bootstrapped()
    override = ProviderOverrideConfig(provider="openai", model=name, endpoint=model.url)
    config = SessionConfig(provider_override=override)
    agent = await Agent.create(session_config=config, vertical=vertical)
    try:
        agent.get_orchestrator().console.quiet = True
        answer = await agent.run("Search for rivers, read the article and report what it says.")
        return str(answer.content)
    finally:
        await agent.close()


async def synthesis(count: Count) -> None:
    """Models that search and read, but say nothing until Victor asks for the answer."""
    async with small_web() as url:
        looks_up = Step(
            calls=(
                ToolCall("web_search", {"query": "rivers"}),
                ToolCall("web_fetch", {"url": f"{url}article"}),
            )
        )
        silent = Script([looks_up, Step("")], side=Step(ANSWER))
        mute = Script([looks_up, Step("")], side=Step(""))
        talks = Script([looks_up, Step(ANSWER)])
        scripts = {"silent": silent, "mute": mute, "talks": talks, "coder": silent}
        with ScriptedModel(scripts) as model:
            for name, vertical, answers, synthesizes in (
                ("silent", "research", True, True),
                ("talks", "research", True, False),
                ("mute", "research", False, False),
                ("coder", None, True, False),
            ):
                hurry()
                said = await asyncio.create_task(ask(model, name, vertical))
                assert (ANSWER in said) is answers, said
                count.add("victor_research_searches_total", status="results")
                count.add("victor_research_sources_analyzed_total")
                if synthesizes:
                    count.add("victor_research_synthesis_duration_seconds_count")


async def own_synthesis(count: Count) -> None:
    """An application that puts an answer together without Victor."""
    for seconds in (0.25, 12.5, 200.0):
        record.synthesis_time(seconds)
        count.add("victor_research_synthesis_duration_seconds_count")
        count.add("victor_research_synthesis_duration_seconds_sum", seconds)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=searches, proves=(SEARCHES,)),
    Scenario(run=sources, proves=(SOURCES,), needs=("victor-research",)),
    Scenario(run=citations, proves=(CITATIONS,), needs=("victor-research",)),
    Scenario(
        run=synthesis, proves=(SYNTHESIS_DURATION, SEARCHES, SOURCES), needs=("victor-research",)
    ),
    Scenario(run=own_synthesis, proves=(SYNTHESIS_DURATION,)),
)
