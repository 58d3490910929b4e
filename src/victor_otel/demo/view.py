"""How the demo's numbers differ from the independent count, and what it says of that."""

from __future__ import annotations

from rich.text import Text

from victor_otel.numbers import Key, Series

_UNKNOWN = (
    ("victor_cache_requests_total", ("result", "miss")),
    ("victor_errors_total", ("component", "agent")),
    ("victor_errors_total", ("component", "workflow")),
)
"""What only Victor knows (`Ledger.expected`), so that nothing can be held against it."""


def compared(observed: Series, expected: Series) -> set[Key]:
    """The series that were counted independently, and any other of the same metrics."""
    names = {name for name, _ in expected}
    return set(expected) | {key for key in observed if key[0] in names and not _unknown(key)}


def differences(observed: Series, expected: Series) -> list[str]:
    """One line for each series that is not as counted independently."""
    return [
        f"{name}{dict(sorted(labels))} is {observed.get((name, labels), 0):g}, "
        f"counted {expected.get((name, labels), 0):g}"
        for name, labels in sorted(compared(observed, expected), key=str)
        if observed.get((name, labels), 0) != expected.get((name, labels), 0)
    ]


def verdict(observed: Series, expected: Series, *, over: bool) -> Text:
    """How many series equal the independent count; while the session plays it may be ahead."""
    keys = compared(observed, expected)
    total = len(keys)
    equal = total - len(differences(observed, expected))
    said = f"{equal} of {total} series equal the independent count"
    if not over:
        return Text(f"{said} so far", style="dim", no_wrap=True)
    return Text(said, style="bold green" if equal == total else "bold red", no_wrap=True)


def _unknown(key: Key) -> bool:
    return any(key[0] == name and label in key[1] for name, label in _UNKNOWN)
