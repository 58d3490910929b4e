"""Searches, sources, citations and answers put together: what counts, and once."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, recording
from tests.scenarios.research import (
    ANSWER,
    BOOK,
    bibliography,
    caching,
    cite,
    registry,
    search,
    served,
    small_web,
)
from victor_otel import record
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall
from victor_otel.victor.verticals import research

SEARCHES = "victor.research.searches"
SOURCES = "victor.research.sources_analyzed"
CITATIONS = "victor.research.citations_generated"
SYNTHESIS = "victor.research.synthesis.duration"

pytest.importorskip("victor_research")

Points = dict[tuple[Any, ...], float]


def searched(**statuses: float) -> Points:
    return {(SEARCHES, ("status", status)): number for status, number in statuses.items()}


def seen(recorded: Recorded) -> Points:
    return recorded.points(SEARCHES, SOURCES, CITATIONS, SYNTHESIS)


class Summarizer:
    """The model that a summary is asked of."""

    async def complete(self, **_: Any) -> Any:
        return SimpleNamespace(content="Rivers, in short.")


def summarizing(**options: Any) -> Any:
    from victor.tools.base import ToolConfig

    config = ToolConfig(provider=Summarizer(), **options)
    return {"ai_summarize": True, "_exec_ctx": {"tool_config": config}}


# Searches.


async def test_a_search_counts_once_by_the_function_and_by_the_tool() -> None:
    from victor.tools import web_search_tool as web

    async with small_web():
        with recording() as recorded:
            assert (await search(web.web_search, "rivers"))["success"]
            assert seen(recorded) == searched(results=1)
            assert (await search(web.web_search.Tool.execute, {}, query="rivers"))["success"]
            assert seen(recorded) == searched(results=2)
            tools = registry(web.web_search)
            assert (await search(tools.execute, "web_search", {}, query="rivers"))["success"]
            assert seen(recorded) == searched(results=3)
            statuses = {dict(key[1:])["status"] for key in recorded.points(SEARCHES, zeros=True)}
            assert statuses == {"results", "empty", "error", "cancelled"}


async def test_a_search_without_results_is_empty_only_if_somebody_answered() -> None:
    from victor.tools import web_search_tool as web

    async with small_web():
        with recording() as recorded:
            for query in ("nothing", "down", "limited"):
                assert (await search(web.web_search, query))["result_count"] == 0
            assert seen(recorded) == searched(empty=1, error=2)


async def test_a_search_with_a_summary_is_a_search_by_both_ways() -> None:
    from victor.tools import web_search_tool as web

    options = summarizing(web_fetch_top=0)
    async with small_web():
        with recording() as recorded:
            assert (await search(web.web_search, "rivers", **options))["summary"]
            context = options.pop("_exec_ctx")
            found = await search(web.web_search.Tool.execute, context, query="rivers", **options)
            assert found["summary"] == "Rivers, in short."
            assert seen(recorded) == searched(results=2)
            empty = await search(web.web_search, "nothing", **summarizing())
            assert empty["original_results"] == ""
            assert seen(recorded) == searched(results=2, empty=1)


async def test_a_summary_that_victor_fails_to_make_is_one_error() -> None:
    """It calls itself and `web_fetch` with an argument that neither has."""
    from victor.tools import web_search_tool as web

    async with small_web():
        with recording() as recorded:
            for function in (web.web_search, web.web_search.Tool._fn):
                with pytest.raises(TypeError):
                    await search(function, "rivers", ai_summarize=True)
            assert seen(recorded) == searched(error=2)
            assert not (await search(web.web_search, "rivers", **summarizing()))["success"]
            assert seen(recorded) == searched(error=3)


async def test_a_cancelled_search_is_cancelled() -> None:
    from victor.tools import web_search_tool as web

    asked, go_on = threading.Event(), threading.Event()

    def late(_query: str) -> tuple[int, str]:
        asked.set()
        go_on.wait(10)
        return 200, ""

    async with small_web():
        with served(late) as url, recording() as recorded:
            web._DDG_HTML_URL = url
            running = asyncio.ensure_future(search(web.web_search, "rivers"))
            await asyncio.to_thread(asked.wait, 10)
            running.cancel()
            await asyncio.wait([running])
            go_on.set()
            assert running.cancelled()
            assert seen(recorded) == searched(cancelled=1)


async def test_searches_at_once_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from victor.tools import web_search_tool as web

    async with small_web():
        web._get_rate_limiter()
        monkeypatch.setattr(web._RATE_LIMITER, "min_interval", 0)
        with recording() as recorded:
            await asyncio.gather(*(web.web_search("rivers") for _ in range(3)))
            assert seen(recorded) == searched(results=3)


async def test_a_search_that_was_not_made_is_none() -> None:
    from victor.tools import web_search_tool as web

    async with small_web() as url:
        with recording() as recorded:
            again = {"query": f"rivers near {url}", "_exec_ctx": caching()}
            await search(web.web_search, **again)
            assert (await search(web.web_search, **again))["cached"]
            assert not (await search(web.web_search, ""))["success"]
            assert seen(recorded) == searched(results=1)


# Sources.


async def test_a_page_is_a_source_each_time_it_is_fetched() -> None:
    from victor.tools import web_search_tool as web

    async with small_web() as url:
        page = f"{url}article"
        with recording() as recorded:
            await search(web.web_fetch, page)
            await search(web.web_fetch.Tool.execute, {}, url=page)
            assert seen(recorded) == {(SOURCES,): 2}


async def test_a_page_that_fails_or_comes_from_a_cache_is_none() -> None:
    from victor.tools import web_search_tool as web

    async with small_web() as url:
        with recording() as recorded:
            for wrong in ("missing", "blank"):
                assert not (await search(web.web_fetch, f"{url}{wrong}"))["success"]
            assert seen(recorded) == {}
            once = {"url": f"{url}article", "_exec_ctx": caching()}
            await search(web.web_fetch, **once)
            assert (await search(web.web_fetch, **once))["cached"]
            assert seen(recorded) == {(SOURCES,): 1}


def conversation() -> Any:
    from victor_research.conversation_enhanced import EnhancedResearchConversationManager

    return EnhancedResearchConversationManager()


async def test_a_source_both_fetched_and_tracked_counts_once() -> None:
    from victor.tools import web_search_tool as web

    async with small_web() as url:
        with recording() as recorded:
            await search(web.web_fetch, f"{url}article")
            conversation().track_data_source(f"{url}article", "web")
            assert seen(recorded) == {(SOURCES,): 1}
            conversation().track_data_source(f"{url}article/2", source_type="web")
            await search(web.web_fetch, url=f"{url}article/2")
            assert seen(recorded) == {(SOURCES,): 2}
            conversation().track_data_source("Census", "dataset")
            conversation().track_data_source("Census", "dataset")
            assert seen(recorded) == {(SOURCES,): 4}


async def test_only_so_many_sources_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(research, "MAX_SOURCES", 2)

    def ignore(*_: Any, **__: Any) -> None: ...

    remembered = research.Sources()
    for name in ("a", "b", "a", "c"):
        remembered._count(name, "tracked", ignore)
    assert list(remembered._ways) == [hash("a"), hash("c")]


# Citations.


async def test_references_that_are_not_there_make_no_citation() -> None:
    with recording() as recorded:
        assert (await cite(None)).output["citations"] == ["None"]
        assert (await cite([{"authors": 5}])).output is None
        assert seen(recorded) == {}
        assert (await cite([BOOK, None])).output["count"] == 2
        assert seen(recorded) == {(CITATIONS,): 1}


async def test_a_bibliography_counts_once_by_hand_and_by_a_workflow() -> None:
    from victor_research import escape_hatches

    with recording() as recorded:
        escape_hatches.format_bibliography({"validated_sources": [BOOK, "none"]})
        assert seen(recorded) == {(CITATIONS,): 1}
        await bibliography([BOOK, BOOK])
        assert seen(recorded) == {(CITATIONS,): 3}


@pytest.mark.parametrize("nested", [False, True])
async def test_a_workflow_with_the_function_itself_counts_once(
    nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an application's own table has it, or calls it from a transform of its own."""
    from victor_research import escape_hatches

    def own(context: Any) -> Any:
        return escape_hatches.format_bibliography(context)

    with recording() as recorded:
        function = own if nested else escape_hatches.format_bibliography
        monkeypatch.setitem(escape_hatches.TRANSFORMS, "format_bibliography", function)
        await bibliography([BOOK, BOOK])
        assert seen(recorded) == {(CITATIONS,): 2}


async def test_a_workflow_whose_transform_is_another_or_fails_cites_nothing() -> None:
    from victor.workflows.definition import TransformNode
    from victor.workflows.executors.transform import TransformNodeExecutor
    from victor_research.escape_hatches import TRANSFORMS

    async def transform(name: str, state: Any) -> Any:
        node = TransformNode(id="list", name="list", transform=TRANSFORMS[name])
        return await TransformNodeExecutor().execute(node, state)

    with recording() as recorded:
        assert "_error" in await transform(
            "format_bibliography", {"validated_sources": 5, "count": 7}
        )
        assert "sources" in await transform("merge_search_results", {"count": 7})
        assert seen(recorded) == {}


# Syntheses.


def reads(name: str, *, side: Step) -> dict[str, Script]:
    return {name: Script([Step(calls=(ToolCall("read", {"path": "a.txt"}),)), Step("")], side)}


async def test_an_answer_without_evidence_or_left_early_is_no_synthesis() -> None:
    from pathlib import Path

    from victor.core.bootstrap import ensure_bootstrapped

    ensure_bootstrapped()
    Path("a.txt").write_text("Rivers.", encoding="utf-8")
    scripts = {
        "broken": Script([Step(status=400)], side=Step(ANSWER)),
        **reads("slow", side=Step(silent=True)),
    }
    with recording() as recorded, ScriptedModel(scripts) as model:
        async with agent(model, "broken", vertical="research") as broken:
            said = await broken.run("Read the file a.txt and report what it says.")
            assert said.content == ANSWER
        async with agent(model, "slow", vertical="research") as slow:
            running = asyncio.ensure_future(slow.run("Read the file a.txt and report."))
            synthesis = 5  # after a call of a tool and three empty answers
            assert await asyncio.to_thread(model.wait_for_request, "slow", synthesis)
            assert model.requests("slow") == synthesis
            running.cancel()
            await asyncio.wait([running])
        assert seen(recorded) == {}


def test_a_synthesis_of_the_applications_own_is_what_it_says() -> None:
    with recording() as recorded:
        record.synthesis_time(3.0)
        assert seen(recorded) == {(SYNTHESIS,): 1}
