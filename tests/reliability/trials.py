"""How often a proof tries something, and what came of it: a row of docs/reliability.md."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class Trials:
    """The rows of one test. `page` collects them, one JSON object a line, if there is one."""

    long: bool
    page: Path | None = None
    _began: float = field(default_factory=time.monotonic)

    def times(self, quick: int, long: int) -> int:
        """How often to try: `quick` in the gate, `long` with `--long`."""
        return long if self.long else quick

    def row(self, tried: str, *, times: int, lost: int = 0, seen: str = "") -> None:
        """Says that `tried` was done `times` times, and `lost` counts did not arrive.

        `seen` is what was measured, with its unit, such as "exit after 1.02 s at most".
        """
        took = time.monotonic() - self._began
        row = {"tried": tried, "times": times, "lost": lost, "seen": seen, "took": took}
        if self.page is None:
            print(row)
        else:
            with self.page.open("a", encoding="utf-8") as page:
                page.write(json.dumps(row) + "\n")
