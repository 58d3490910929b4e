"""The versions of Victor that this package is made for, and the one that is installed.

pyproject.toml says the same to installers; a test compares the two.
"""

from __future__ import annotations

import importlib.metadata

TESTED = ("0.9.5", "0.12.0", "0.17.0")
"""The versions that the tests run on, oldest first."""

BELOW = "1.0"
"""The first version that is not supported."""

RANGE = f">={TESTED[0]},<{BELOW}"
"""What pip may choose from."""

INSTALL = f'pip install "victor-ai{RANGE}" numpy'
"""How a user gets one; Victor creates no agent without numpy, and does not declare it."""


def installed(package: str) -> str | None:
    """The installed version of a package, without importing it."""
    try:
        metadata = importlib.metadata.distribution(package).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    # `importlib.metadata.version` would parse it as an e-mail, whose body is a whole README.
    header, _, _ = metadata.partition("\n\n")
    lines = (line.partition(": ") for line in header.splitlines())
    return next((value for name, _, value in lines if name == "Version"), None)


def victor_version() -> str | None:
    """The installed version of victor-ai."""
    return installed("victor-ai")


def is_supported(version: str) -> bool:
    """Whether a version is in the range that this package is made for."""
    return release(TESTED[0]) <= release(version) < release(BELOW)


def is_untested(version: str) -> bool:
    """Whether a version is newer than the last one that the tests run on."""
    return release(version) > release(TESTED[-1])


def applies(version: str | None, since: str, until: str) -> bool:
    """Whether a version has what exists from `since` on and before `until`, if not empty.

    Without a version, as if it had everything.
    """
    if version is None or not (since or until):
        return True
    ours = release(version)
    return (not since or ours >= release(since)) and (not until or ours < release(until))


def release(version: str) -> tuple[int, ...]:
    """The release numbers of a version; what follows them (rc1, .dev0, +local.1) is left out."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
