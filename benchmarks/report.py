"""What every benchmark shares: how often it repeats, and the table that it prints and keeps."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

_QUICK_ROUNDS = 2


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    rounds: int
    quick: bool
    """Whether one only wants to see that it runs: its numbers mean nothing."""
    save: Path | None
    """The folder in which tables are kept for a page of docs/."""

    def times(self, usual: int) -> int:
        """How often a round repeats the work."""
        return max(1, usual // 20) if self.quick else usual


def parser(about: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark; `rounds` is how many it takes unless it is told."""
    made = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--quick", action="store_true", help="only show that it runs")
    made.add_argument("--save", type=Path, help="keep the tables in this folder")
    return made


def asked(given: argparse.Namespace) -> Asked:
    return Asked(_QUICK_ROUNDS if given.quick else given.rounds, given.quick, given.save)


@dataclass
class Table:
    """Rows that are printed as they are found. `name` is their place in its page of docs/."""

    name: str
    compares: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def __post_init__(self) -> None:
        print(f"\n{self.compares}\n\n{self._line(self.head)}", flush=True)

    def add(self, *cells: object) -> None:
        row = tuple(map(str, cells))
        self.rows.append(row)
        print(self._line(row), flush=True)

    def keep(self, asked: Asked) -> None:
        if asked.save is not None:
            asked.save.mkdir(parents=True, exist_ok=True)
            kept = json.dumps(asdict(self), indent=1)
            (asked.save / f"{self.name}.json").write_text(kept, encoding="utf-8")

    def _line(self, cells: tuple[str, ...]) -> str:
        widths = (max(24, len(title)) for title in self.head[1:])
        return f"{cells[0]:32}" + "".join(
            f"  {cell:>{width}}" for cell, width in zip(cells[1:], widths, strict=True)
        )
