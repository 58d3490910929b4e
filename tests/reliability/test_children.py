"""Processes that multiprocessing makes: what a child did arrives, however such a child ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.processes import OWN, environment
from tests.reliability.lifecycles import pushed
from tests.stack.backends import note_taker

PROGRAM = (
    OWN
    + """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

import victor_otel

def work(calls):
    victor_otel.start()
    for _ in range(calls):
        call()

if __name__ == "__main__":
    work(1)
    kind, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if kind == "Process":
        child = context.Process(target=work, args=(4,))
        child.start()
        child.join()
    elif kind == "Pool":
        pool = context.Pool(1)
        pool.apply(work, (4,))
        pool.close()
        pool.join()
    else:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(work, 4).result()
"""
)


def played(folder: Path, kind: str, method: str, **variables: str) -> dict[str, float]:
    """The calls of each process that took part, by its instance."""
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    with note_taker() as (url, requests):
        variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "VICTOR_OTEL_EXIT_TIMEOUT": "20"}
        done = subprocess.run(
            [sys.executable, str(program), kind, method],
            capture_output=True,
            text=True,
            env=environment(**variables),
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    return pushed(requests, "victor.provider.requests")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", ["Process", "Pool", "ProcessPoolExecutor"])
def test_what_a_child_did_arrives(kind: str, method: str, tmp_path: Path) -> None:
    assert sorted(played(tmp_path, kind, method).values()) == [1, 4]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_is_another_instance_than_the_parent_that_the_environment_names(
    method: str, tmp_path: Path
) -> None:
    named = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=shop-1"}
    found = played(tmp_path, "Process", method, **named)
    assert found.pop("shop-1") == 1
    assert list(found.values()) == [4]
    assert all(instance.startswith("shop-1-") for instance in found)
