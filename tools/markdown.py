"""Markdown as data: the fenced blocks of a text with what is around them, and its links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; `shows` are the lines of the `text` block that follows it."""

    line: int
    language: str
    text: str
    remark: str = ""
    """The comment right above it."""
    shows: tuple[str, ...] = ()


@cache
def tokens(text: str) -> list[Token]:
    """What a text consists of."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of a text in their order, of some languages or of all."""
    found = list(_blocks(text))
    return [block for block in found if not languages or block.language in languages]


def _blocks(text: str) -> Iterator[Block]:
    around = [None, *tokens(text), None]
    for before, token, after in zip(around, around[1:], around[2:], strict=False):
        if token is None or token.type != "fence":
            continue
        remark = before.content.strip() if before and before.type == "html_block" else ""
        shows = after.content if after and after.type == "fence" and after.info == "text" else ""
        yield Block(
            line=(token.map or [0])[0] + 1,
            language=token.info,
            text=token.content,
            remark=remark,
            shows=tuple(shows.splitlines()),
        )


def links(text: str) -> list[str]:
    """Where a text points to, its pictures included."""
    return [
        str(child.attrs.get("href") or child.attrs["src"])
        for token in tokens(text)
        for child in token.children or ()
        if child.type in {"link_open", "image"}
    ]
