"""Builds the site: `python -m tools.site`, into .nox/pages/site.

Pages are written for GitHub, and the site's generator wants them a little different. In the site
each has the path that it has in the repository, so links from page to page need no change.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import PurePosixPath

from tools import markdown
from tools.paths import ROOT, tracked

FOLDER = ROOT / ".nox" / "pages"
SITE = FOLDER / "site"
REPOSITORY = "https://github.com/victor-otel/victor-otel"
SUFFIXES = (".md", ".png", ".svg")
"""Of what is in the site."""
INDENT = 4
"""What Python-Markdown wants before all that belongs to an item of a list."""

_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
_PATTERN = re.compile(r'^( *)"([^"]*\*[^"]*)",$', re.MULTILINE)


@cache
def present() -> frozenset[str]:
    """The files and folders of the repository."""
    files = map(PurePosixPath, tracked())
    return frozenset(str(each) for file in files for each in (file, *file.parents))


@cache
def shown(*suffixes: str) -> list[str]:
    """The files that are in the site: all but what GitHub alone reads."""
    return sorted(one for one in tracked() if one.endswith(suffixes) and not one.startswith("."))


def linked(text: str, page: str) -> str:
    """The text of a page with links to GitHub where they lead to what is not in the site.

    Raises:
        SystemExit: when a link leads to nothing; links to headings are the generator's to check.
    """
    links = set(markdown.links(text))

    def link(found: re.Match[str]) -> str:
        path, mark, anchor = found[0].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        elsewhere = found[0] not in links or not path or ":" in path
        if elsewhere or target in shown(*SUFFIXES):
            return found[0]
        if target not in present():
            raise SystemExit(f"{page}: nothing is at {path}")
        if f"{target}/README.md" in present():
            return posixpath.join(path, "README.md") + mark + anchor
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{target}{mark}{anchor}"

    return _LINK.sub(link, text)


def indented(text: str) -> str:
    """The same text with lists as Python-Markdown wants them, which does not know CommonMark: what
    belongs to an item is four columns to the right of it, with empty lines around lists, fences,
    and items that have a fence or an empty line.
    """
    lines = text.splitlines()
    columns = [0] * len(lines)
    gaps = [""] * (len(lines) + 1)
    for token in markdown.tokens(text):
        first, end = token.map or (0, 0)
        if token.type == "list_item_open":
            for number in range(first + 1, end):
                columns[number] += INDENT - len(f"{token.info}{token.markup} ")
            if any(not line or "```" in line for line in lines[first:end]):
                gaps[end] = "\n"
        elif token.type == "fence" or token.type.endswith("_list_open"):
            gaps[first] = gaps[end] = "\n"
    placed = zip(gaps, columns, lines, strict=False)
    return "".join(f"{gap}{' ' * column}{line}\n" for gap, column, line in placed)


def configuration() -> str:
    """The configuration, with all pages that match in place of a pattern.

    Raises:
        SystemExit: when a page is not in the navigation.
    """
    text = _PATTERN.sub(
        lambda found: "\n".join(
            f'{found[1]}"{page}",' for page in shown(".md") if fnmatch(page, found[2])
        ),
        (ROOT / "zensical.toml").read_text(encoding="utf-8"),
    )
    if left := [page for page in shown(".md") if f'"{page}"' not in text]:
        raise SystemExit(f"not in the navigation of zensical.toml: {', '.join(left)}")
    return text


def build() -> None:
    """The site, without a warning."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(ROOT / "tools" / "theme", FOLDER / "theme")
    for path in shown(*SUFFIXES):
        target = FOLDER / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".md":
            text = (ROOT / path).read_text(encoding="utf-8")
            target.write_text(indented(linked(text, path)), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, target)
    written = FOLDER / "zensical.toml"
    written.write_text(configuration(), encoding="utf-8")
    zensical = (sys.executable, "-m", "zensical", "build", "--strict", f"--config-file={written}")
    subprocess.run(zensical, check=True)


if __name__ == "__main__":
    build()
