"""The pages in docs/ as data: their code blocks, links, headings and what they name.

A comment in the line above a block says what is special about it:

- `<!-- needs: engine -->` or `cluster`: it cannot run here, for want of a container engine or of a
  cluster; `install`: it changes the Python that the tests run in, and has a test of its own;
- `<!-- until Ctrl-C -->`: it runs as long as it is let.

A `text` block right after an `sh` block is what that shows; `...` stands for anything in a line.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from markdown_it.token import Token

from tools import markdown
from tools.paths import DEPLOY, DOCS, ROOT

PAGES = sorted(DOCS.glob("*.md"))
GENERATED = "<!-- Generated"
"""Pages that begin so are compared with their source elsewhere."""
CONTRIBUTORS = [ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("decisions/*.md"))]
"""Pages that are about the code, and whose commands are the gate's."""
WRITTEN = [
    *(page for page in PAGES if not page.read_text(encoding="utf-8").startswith(GENERATED)),
    *CONTRIBUTORS,
]

NEEDS = ("engine", "cluster", "install")

ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+\S*(?<![.,:;)])")
"""A page or an endpoint on this machine."""

_REMARK = re.compile(r"<!-- (?:needs: (?P<needs>\w+)|(?P<stays>until Ctrl-C)) -->")


@dataclass(frozen=True, kw_only=True)
class Block(markdown.Block):
    """A block, and the page that it stands on."""

    page: Path

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def needs(self) -> str:
        found = _REMARK.fullmatch(self.remark)
        return (found and found["needs"]) or ""

    @property
    def stays(self) -> bool:
        found = _REMARK.fullmatch(self.remark)
        return bool(found and found["stays"])


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in their order, of some languages or of all."""
    found = markdown.blocks(page.read_text(encoding="utf-8"), *languages)
    return [Block(page=page, **vars(block)) for block in found]


def tokens(page: Path) -> list[Token]:
    return markdown.tokens(page.read_text(encoding="utf-8"))


def remarks(page: Path) -> list[str]:
    """What stands in the comments above blocks, in whatever words."""
    return [block.remark for block in blocks(page) if block.remark]


def is_remark(comment: str) -> bool:
    found = _REMARK.fullmatch(comment)
    return bool(found and (found["stays"] or found["needs"] in NEEDS))


def missing(block: Block, output: str) -> list[str]:
    """The lines that a block must show and does not."""
    lines = output.splitlines()
    return [one for one in block.shows if not any(_is_shown(one, line) for line in lines)]


def _is_shown(expected: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, line.rstrip()) is not None


def links(page: Path) -> list[str]:
    """Where a page points to."""
    return markdown.links(page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a link can name in a page, as GitHub makes it of the headings."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if heading.type != "heading_open":
            continue
        words = "".join(child.content for child in inline.children or () if not child.nesting)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def prose(page: Path) -> str:
    """Everything that a page says, blocks included, and not where its links point."""
    return "\n".join(
        child.content for token in tokens(page) for child in (token.children or (token,))
    )


def addresses(page: Path) -> list[str]:
    """Those that a page names in its text: not in a command, or as the value of a setting."""
    return [
        address
        for token in tokens(page)
        for child in token.children or ()
        if child.type == "text"
        for address in ADDRESS.findall(child.content)
    ]


def spans(page: Path) -> list[str]:
    """What stands between backticks."""
    return [
        child.content
        for token in tokens(page)
        for child in token.children or ()
        if child.type == "code_inline"
    ]


ELSEWHERE = (
    (DOCS / "quick-reference.md", "."),
    (DOCS / "guide.md", "."),
    (DEPLOY / "compose.md", "deploy"),
)
"""Pages whose commands install, and the folder of a clone that each speaks of."""
