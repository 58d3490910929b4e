"""Victor checks a project against its default security policy, once for each line that it reads.

`python -m tests.stack.checks` reads "clean" or "vulnerable" and prints "passed" or "failed".
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import victor_otel
from tests.kit.processes import environment
from tests.scenarios.security import ADVISORIES, advisory_source, security_manager
from victor_otel.demo import sandbox

PACKAGES = {"vulnerable": "fernlib==1.0", "clean": "stonelib==3.0"}


@dataclass(frozen=True)
class Checks:
    """A process that checks on demand."""

    process: subprocess.Popen[str]

    def check(self, project: str) -> str:
        """Checks one of PACKAGES; "passed" or "failed"."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{project}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def checking(**variables: str) -> Generator[Checks]:
    """Run the process; `variables` say where its numbers go."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stack.checks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    ) as process:
        try:
            yield Checks(process)
        finally:
            process.terminate()


async def check(manager: Any, project: str) -> str:
    Path("requirements.txt").write_text(f"{PACKAGES[project]}\n")
    passed, _ = manager.check_policy(await manager.scan_file(Path("requirements.txt")))
    return "passed" if passed else "failed"


def main() -> None:
    with sandbox(), advisory_source(ADVISORIES) as url:
        victor_otel.start()
        from victor.security.cve_database import OSVDatabase

        with mock.patch.object(OSVDatabase, "API_URL", url):
            manager = security_manager()
            for line in sys.stdin:
                print(asyncio.run(check(manager, line.strip())), flush=True)


if __name__ == "__main__":
    main()
