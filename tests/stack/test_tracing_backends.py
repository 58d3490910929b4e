"""Backends of spans show the tree that the ledger has: each call once, in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.kit.browser import browser
from tests.kit.tree import Conversation, Node, Seen, conversations, hold
from tests.stack.processes import wait_until
from tests.stack.traces import (
    Backend,
    as_phoenix_has_it,
    in_jaeger,
    in_phoenix,
    jaeger,
    page_in_phoenix,
    phoenix,
    played,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

Played = tuple[Backend, list[Conversation]]


@pytest.fixture(scope="module")
def in_phoenix_by_now() -> Iterator[Played]:
    with phoenix() as backend:
        yield backend, played(backend.otlp)


def shown(
    spans: Callable[[Backend], list[Seen]], backend: Backend, expected: list[Conversation]
) -> list[Conversation]:
    """What a backend shows, once it shows as many spans as there must be."""
    wanted = sum(len(list(rows(turn))) for turns in expected for turn in turns)
    return conversations(wait_until(lambda: len(got := spans(backend)) >= wanted and got))


def rows(node: Node, level: int = 0) -> Iterator[tuple[int, str, bool]]:
    """A tree from top to bottom: how deep, what, and whether it is an error."""
    yield level, node.name, node.is_error
    for each in node.below:
        yield from rows(each, level + 1)


def test_jaeger_shows_the_tree_of_the_ledger() -> None:
    with jaeger() as backend:
        expected = played(backend.otlp)
        hold(shown(in_jaeger, backend, expected), expected)


def test_phoenix_shows_the_tree_of_the_ledger(in_phoenix_by_now: Played) -> None:
    backend, expected = in_phoenix_by_now
    shown_there = sorted(tuple(map(as_phoenix_has_it, turns)) for turns in expected)
    hold(shown(in_phoenix, backend, expected), shown_there)


DRAWN = """rows => rows.map(row => [
    Number(getComputedStyle(row).getPropertyValue("--trace-tree-nesting-level")),
    row.querySelector(".span-node__heading span").textContent,
    row.querySelector("[data-status-code]").dataset.statusCode === "ERROR",
])"""


def test_the_page_of_phoenix_draws_the_tree(in_phoenix_by_now: Played) -> None:
    backend, expected = in_phoenix_by_now
    shown(in_phoenix, backend, expected)
    rich = "execute_tool delegate"
    turns = [list(rows(turn)) for turns in expected for turn in turns]
    (turn,) = (turn for turn in turns if (1, rich, False) in turn)
    with browser() as page:
        page.goto(page_in_phoenix(backend, rich))
        drawn = page.locator(".span-node-wrap")
        expect(drawn).to_have_count(len(turn), timeout=90_000)
        assert list(map(tuple, drawn.evaluate_all(DRAWN))) == turn
