"""What a sample costs on disk, in VictoriaMetrics and in Prometheus.

    python -m benchmarks.storage [--quick]

A day of agents that push every 15 s, and of which each works in a tenth of these intervals: written
once, read by both, and compacted by both. Nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Asked, Table, asked, parser
from tests.stack import fleet
from tests.stack.backends import victoria_metrics
from tests.stack.processes import DIRECT, exposition, program, wait_until

INTERVAL = 15
DAY = 24 * 3600
AGENTS = 2
WORKS = 0.1


def samples(asked: Asked) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Each series of each agent, with its times in seconds and its values."""
    chance = random.Random(0)  # noqa: S311
    intervals = asked.times(DAY // INTERVAL)
    # Ends an hour ago, on the hour: what is in the future is refused.
    start = time.time() // 3600 * 3600 - 3600 - intervals * INTERVAL
    rounds: dict[int, list[tuple[float, int]]] = {}
    for agent in range(AGENTS):
        done, phase = 0, chance.uniform(0, INTERVAL)
        rounds[agent] = []
        for number in range(intervals):
            done += chance.random() < WORKS
            # No timer is exact to the millisecond.
            when = start + phase + number * INTERVAL + chance.gauss(0, 0.002)
            rounds[agent].append((round(when, 3), done))
    for (name, labels), value in sorted(fleet.totals(1).items(), key=lambda each: each[0][0]):
        for agent, done in rounds.items():
            pairs = {**dict(labels), "job": "victor", "instance": f"agent-{agent}"}
            written = ",".join(f'{key}="{pairs[key]}"' for key in sorted(pairs))
            yield f"{name}{{{written}}}", [(when, value * times) for when, times in done]


def victoria(text: str, folder: Path) -> int:
    """Bytes that VictoriaMetrics keeps, its index among them."""
    folder.mkdir()
    with victoria_metrics(folder) as url:
        body = text.encode()
        DIRECT.open(f"{url}/api/v1/import/prometheus", body, timeout=600)
        DIRECT.open(f"{url}/internal/force_flush", timeout=600)
        # Nothing says when it has merged, but that it does nothing more.
        DIRECT.open(f"{url}/internal/force_merge", timeout=600)
        wait_until(lambda: sum(_of(f"{url}/metrics", "vm_active_force_merges")) == 0, 600)
    # Not what it caches for its next start.
    return on_disk(folder / "data" / "data")


def _of(url: str, wanted: str) -> list[float]:
    return [value for (name, _), value in exposition(url).items() if name == wanted]


def prometheus(text: str, folder: Path) -> int:
    """Bytes of the blocks that Prometheus would have, of two hours each."""
    folder.mkdir()
    page = folder / "page.txt"
    page.write_text(text, encoding="utf-8")
    blocks = folder / "blocks"
    create = ("tsdb", "create-blocks-from", "openmetrics", str(page), str(blocks))
    subprocess.run([program("promtool"), *create], check=True, capture_output=True)
    return on_disk(blocks)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(asked: Asked) -> None:
    every = list(samples(asked))
    count = sum(len(each) for _, each in every)
    table = Table(
        "storage",
        f"A day of {AGENTS} agents, {len(every)} series, a sample every {INTERVAL} s: "
        f"{count:,} samples.",
        ("Storage", "MiB", "bytes a sample", "GiB a year for 1,000 series"),
    )
    milliseconds = "".join(
        f"{series} {value:g} {when * 1000:.0f}\n" for series, each in every for when, value in each
    )
    seconds = "".join(
        f"{series} {value:g} {when:.3f}\n" for series, each in every for when, value in each
    )
    with tempfile.TemporaryDirectory(prefix="storage-") as folder:
        for title, kept in (
            ("VictoriaMetrics", victoria(milliseconds, Path(folder, "victoria"))),
            ("Prometheus", prometheus(f"{seconds}# EOF\n", Path(folder, "prometheus"))),
        ):
            each = kept / count
            year = each * 365 * DAY / INTERVAL * 1_000 / 2**30
            table.add(title, f"{kept / 2**20:.1f}", f"{each:.2f}", f"{year:.2f}")
    table.keep(asked)


if __name__ == "__main__":
    main(asked(parser(__doc__, rounds=1).parse_args()))
