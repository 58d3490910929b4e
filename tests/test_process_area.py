"""Memory, CPU and their limits, against fabricated systems and one real child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from victor_otel.victor import usage
from victor_otel.victor.usage import Usage, available_cpus, memory_limit

GIB = 2**30
TOTAL = psutil.virtual_memory().total


def tree(root: Path, **files: str) -> Path:
    """A cgroup tree; `__` in a name stands for `/`."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    return root


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts this process into a cgroup of version 2."""
    real = usage._text

    def put(path: str) -> None:
        def text(file: Path) -> str:
            own = file == Path("/proc/self/cgroup")
            return f"1:name=systemd:/elsewhere\n0::{path}\n" if own else real(file)

        monkeypatch.setattr(usage, "_text", text)

    put("/")
    return put


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return 8


# Limits


def test_without_any_cgroup_the_limit_is_the_machines_memory(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) == TOTAL


def test_the_limit_of_a_container_in_version_2(tmp_path: Path, group: Any) -> None:
    assert memory_limit(tree(tmp_path, **{"memory.max": f"{GIB}\n"})) == GIB


def test_max_is_no_limit(tmp_path: Path, group: Any) -> None:
    assert memory_limit(tree(tmp_path, **{"memory.max": "max\n"})) == TOTAL


def test_the_tightest_group_around_the_process_counts(tmp_path: Path, group: Any) -> None:
    group("/user.slice/app.scope")
    tree(
        tmp_path,
        **{
            "user.slice__memory.max": f"{GIB}\n",
            "user.slice__app.scope__memory.max": "max\n",
            "other.slice__memory.max": "1\n",
        },
    )
    assert memory_limit(tmp_path) == GIB
    tree(tmp_path, **{"user.slice__app.scope__memory.max": f"{GIB // 2}\n"})
    assert memory_limit(tmp_path) == GIB // 2


def test_the_limit_of_a_container_in_version_1(tmp_path: Path) -> None:
    tree(tmp_path, memory__memory_limit="", **{"memory__memory.limit_in_bytes": f"{GIB}\n"})
    assert memory_limit(tmp_path) == GIB


def test_version_1_says_no_limit_with_a_huge_number(tmp_path: Path) -> None:
    tree(tmp_path, **{"memory__memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory_limit(tmp_path) == TOTAL


def test_a_group_outside_our_namespace_is_no_limit(tmp_path: Path, group: Any) -> None:
    group("/../../somewhere/else")
    assert memory_limit(tree(tmp_path, **{"memory.max": f"{GIB}\n"})) in {GIB, TOTAL}


@pytest.mark.parametrize("content", ["", "garbage\n", "\xff\n"])
def test_an_unreadable_limit_is_none(tmp_path: Path, group: Any, content: str) -> None:
    (tmp_path / "memory.max").write_bytes(content.encode("latin-1"))
    assert memory_limit(tmp_path) == TOTAL


def test_without_a_quota_the_cpus_are_those_of_the_affinity(tmp_path: Path, cpus: int) -> None:
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 8), ("50000 100000\n", 0.5), ("300000 100000\n", 3), ("9900000 100000\n", 8)],
)
def test_the_quota_of_version_2(
    tmp_path: Path, group: Any, cpus: int, quota: str, expected: float
) -> None:
    assert available_cpus(tree(tmp_path, **{"cpu.max": quota})) == expected


def test_the_tightest_quota_around_the_process_counts(
    tmp_path: Path, group: Any, cpus: int
) -> None:
    group("/a/b")
    tree(tmp_path, **{"a__cpu.max": "150000 100000\n", "a__b__cpu.max": "200000 100000\n"})
    assert available_cpus(tmp_path) == 1.5


@pytest.mark.parametrize(("quota", "expected"), [("-1\n", 8), ("250000\n", 2.5)])
def test_the_quota_of_version_1(tmp_path: Path, cpus: int, quota: str, expected: float) -> None:
    tree(tmp_path, **{"cpu__cpu.cfs_quota_us": quota, "cpu__cpu.cfs_period_us": "100000\n"})
    assert available_cpus(tmp_path) == expected


def test_a_system_without_affinity_has_all_its_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 6)
    assert available_cpus(tmp_path) == 6


# CPU


class System:
    """A clock and a machine that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.user = self.kernel = self.waited = 0.0
        self.waits = True

    def run(self, seconds: float, *, cpu: float = 0.0, waited: float = 0.0) -> None:
        self.now += seconds
        self.user += cpu / 2
        self.kernel += cpu / 2
        self.waited += waited

    def cpu_times(self) -> Any:
        return SimpleNamespace(iowait=self.waited) if self.waits else SimpleNamespace()


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()

    class Own:
        def cpu_times(self) -> Any:
            return SimpleNamespace(user=made.user, system=made.kernel)

    monkeypatch.setattr(usage, "monotonic", lambda: made.now)
    monkeypatch.setattr(usage, "available_cpus", lambda: 4.0)
    monkeypatch.setattr(usage.psutil, "Process", Own)
    monkeypatch.setattr(usage.psutil, "cpu_times", made.cpu_times)
    monkeypatch.setattr(usage.psutil, "cpu_count", lambda: 2)
    return made


def cpu(read: Usage) -> list[float]:
    return [value for value, _ in read.read_cpu()]


def test_cpu_is_absent_in_the_first_seconds(system: System) -> None:
    read = Usage()
    assert cpu(read) == []
    system.run(4.9, cpu=1)
    assert cpu(read) == []
    assert list(read.read_io_wait()) == []


def test_cpu_is_the_share_of_the_cpus_the_process_may_use(system: System) -> None:
    read = Usage()
    system.run(20, cpu=40)
    assert cpu(read) == [50.0]
    system.run(20, cpu=80)
    assert cpu(read) == [100.0]


def test_a_young_process_averages_over_its_life(system: System) -> None:
    read = Usage()
    system.run(6, cpu=12)
    assert cpu(read) == [50.0]


def test_readers_within_a_few_seconds_see_the_same_and_take_nothing_from_the_others(
    system: System,
) -> None:
    read = Usage()
    for _ in range(8):
        system.run(5, cpu=10)
        first = cpu(read)
        assert first == [50.0]
        system.run(1, cpu=4)
        assert cpu(read) == first
        system.run(4, cpu=6)


def test_a_burst_is_forgotten_after_the_window(system: System) -> None:
    read = Usage()
    system.run(15, cpu=60)
    assert cpu(read) == [100.0]
    for _ in range(5):
        system.run(15)
        latest = cpu(read)
    assert latest == [0.0]


def test_a_frequent_reader_averages_over_at_least_fifteen_seconds(system: System) -> None:
    read = Usage()
    for _ in range(30):
        system.run(1)
        cpu(read)
    system.run(5, cpu=20)
    (now,) = cpu(read)
    assert now == pytest.approx(100 * 20 / (4 * 15), rel=0.35)
    assert now <= 100 * 20 / (4 * 15)


def test_the_ring_stays_small(system: System) -> None:
    read = Usage()
    for _ in range(1000):
        system.run(5)
        cpu(read)
    assert len(read._samples) <= 16


def test_io_wait_is_the_share_of_the_machines_time(system: System) -> None:
    read = Usage()
    system.run(20, waited=10)
    assert [value for value, _ in read.read_io_wait()] == [25.0]


def test_io_wait_is_absent_where_the_system_does_not_tell(system: System) -> None:
    system.waits = False
    read = Usage()
    system.run(20)
    assert list(read.read_io_wait()) == []
    assert cpu(read) == [0.0]


# Memory


def memory(read: Usage) -> dict[str, float]:
    return {labels["component"]: value for value, labels in read.read_memory()}


def test_memory_is_that_of_the_process_and_of_no_invented_parts() -> None:
    seen = memory(Usage())
    assert set(seen) == {"process", "children"}
    assert seen["process"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.3)


def test_living_children_count_and_are_looked_for_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(usage, "monotonic", lambda: now[0])
    read = Usage()
    alone = memory(read)["children"]
    program = "import sys; kept = bytearray(b'x' * 20_000_000); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        now[0] += 59
        assert memory(read)["children"] == alone
        now[0] += 1
        assert memory(read)["children"] >= alone + 20_000_000
        child.communicate(b"\n")
    assert memory(read)["children"] == pytest.approx(alone, abs=10_000_000)
