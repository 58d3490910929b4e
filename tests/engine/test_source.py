"""What a module's source says of the functions in it, without an import of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from victor_otel.victor import source

FILES = {
    "__init__.py": "raise RuntimeError('this is imported')",
    "one.py": """
from .two import Base, helper as renamed
from elsewhere_not_installed import Foreign

class Child(Base[None]):
    def own(self): ...
    alias = own

class Stranger(Foreign): ...

class Lonely: ...

@tool
def made(): ...

def plain(): ...

try:
    def careful(): ...
except ImportError:
    class Fallback:
        async def run(self): ...
""",
    "two.py": """
from .three import Root

class Base(Root):
    def inherited(self): ...

def helper(): ...
""",
    "three.py": "class Root:\n    def deep(self): ...\n",
}


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("one:Child.own", "found"),
        ("one:Child.alias", "found"),
        ("one:Child.inherited", "found"),
        ("one:Child.deep", "found"),
        ("one:Child.gone", "missing"),
        ("one:Stranger.anything", "found"),  # of what is not installed nothing is known
        ("one:Lonely.gone", "missing"),
        ("one:Gone.own", "missing"),
        ("one:made.Tool._fn", "found"),
        ("one:plain.Tool._fn", "missing"),
        ("one:renamed", "found"),
        ("one:careful", "found"),
        ("one:Fallback.run", "found"),
        ("one:gone", "missing"),
        ("none:gone", "missing"),
    ],
)
def test_a_function_is_found_where_it_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, state: str
) -> None:
    package = tmp_path / f"read_{abs(hash(path))}"
    package.mkdir()
    for name, text in FILES.items():
        (package / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source.state(f"{package.name}.{path}") == state
    assert package.name not in sys.modules


def test_a_package_that_is_not_installed_is_waited_for() -> None:
    assert source.state("no_such_package.module:Class.function") == "waiting"
