"""What is generated and committed: written anew, or compared with what it should be."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tools.paths import ROOT


def between(page: Path, **contents: str) -> str:
    """The text of `page` with what stands between the markers of each name replaced."""
    text = page.read_text(encoding="utf-8")
    for name, content in contents.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise SystemExit(f"{page.name} has no {begin} ... {end}")
        text = f"{head}{begin}\n{content}\n{end}{tail}"
    return text


def write_or_check(files: Mapping[Path, str]) -> None:
    """Write what differs if the command line says `--write`.

    Raises:
        SystemExit: it does not, and something differs.
    """
    stale = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--write" in sys.argv:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    elif stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(f"stale: {names}; run `nox -s docs -- --write`")
