"""What only the application knows, told to victor-otel. Needs no model and no agent."""

from __future__ import annotations

import signal

import victor_otel
from victor_otel import record


def search(_question: str) -> tuple[str, ...]:
    """Searches the application's documents."""
    return "victor.md", "otel.md", "lunch.md", "metrics.md"


def is_relevant(found: str) -> bool:
    """Judges a passage: here by a list, else by a user's click or a second model."""
    return found != "lunch.md"


def main() -> None:
    # The first agent would do this; here is none.
    victor_otel.start()

    record.feature("nightly_report")

    found = search("Which numbers does Victor have?")
    record.search_accuracy(relevant=sum(map(is_relevant, found)), retrieved=len(found))
    record.recall_accuracy(accurate=1, recalled=2, memory_type="entity")

    with record.synthesis():
        "\n".join(found)
    record.synthesis_time(12.5)  # the same, for what a clock of one's own has measured
    record.visualization(2)

    record.proficiency("sql", 0.75)
    record.security_tests(passed=19, total=20)

    print("reported")
    signal.pause()


if __name__ == "__main__":
    main()
