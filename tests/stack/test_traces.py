"""Backends of spans show the tree that the ledger has: each call once, in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.stack.processes import wait_until
from tests.stack.traces import (
    Backend,
    as_phoenix_has_it,
    in_jaeger,
    in_phoenix,
    jaeger,
    phoenix,
    played,
)
from tests.tree import Conversation, Node, Seen, conversations

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def shown(
    spans: Callable[[Backend], list[Seen]], backend: Backend, expected: list[Conversation]
) -> list[Conversation]:
    """What a backend shows, once it shows as many spans as there must be."""
    wanted = sum(map(size, (node for turns in expected for node in turns)))
    return conversations(wait_until(lambda: len(got := spans(backend)) >= wanted and got))


def size(node: Node) -> int:
    return 1 + sum(map(size, node.below))


def test_jaeger_shows_the_tree_of_the_ledger() -> None:
    with jaeger() as backend:
        expected = played(backend.otlp)
        assert shown(in_jaeger, backend, expected) == expected


def test_phoenix_shows_the_tree_of_the_ledger() -> None:
    with phoenix() as backend:
        expected = played(backend.otlp)
        seen = shown(in_phoenix, backend, expected)
        assert seen == sorted(tuple(map(as_phoenix_has_it, turns)) for turns in expected)
