"""Writes the table of docs/reliability.md from what `nox -s reliability -- --long` has tried."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tools.generated import between
from tools.paths import DOCS, ROOT

PAGE = DOCS / "reliability.md"
RESULTS = ROOT / ".nox" / "reliability"
_HEAD = (
    "| What was tried | How often | Lost | What was seen | Took at most |",
    "| --- | ---: | ---: | --- | ---: |",
)


@dataclass
class Row:
    """The same proof on all pairs of Python and Victor."""

    times: int = 0
    lost: int = 0
    seen: str = ""
    took: float = 0
    pairs: list[str] = field(default_factory=list[str])

    def add(self, pair: str, times: int, lost: int, seen: str, took: float) -> None:
        self.times += times
        self.lost += lost
        self.seen = seen or self.seen
        self.took = max(self.took, took)
        self.pairs.append(pair)


def rows(results: Iterable[Path]) -> dict[str, Row]:
    """By what was tried, in the order in which it was."""
    found: dict[str, Row] = {}
    for path in results:
        for line in path.read_text(encoding="utf-8").splitlines():
            tried = json.loads(line)
            found.setdefault(tried.pop("tried"), Row()).add(pair_of(path), **tried)
    return found


def pair_of(path: Path) -> str:
    python, _, victor = path.stem.partition("-")
    return f"Victor {victor} on Python {python}"


def table(results: list[Path]) -> str:
    pairs = [pair_of(path) for path in results]
    lines = [f"On {', '.join(pairs)}; how often is the sum over them.", "", *_HEAD]
    for tried, row in sorted(rows(results).items()):
        where = "" if row.pairs == pairs else f" ({', '.join(dict.fromkeys(row.pairs))})"
        lines.append(
            f"| {tried}{where} | {row.times:,} | {row.lost:,} | {row.seen} | {row.took:,.0f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    results = sorted(RESULTS.glob("*.jsonl"))
    if not results:
        raise SystemExit("nothing was tried: run `nox -s reliability -- --long` first")
    PAGE.write_text(between(PAGE, tried=table(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
