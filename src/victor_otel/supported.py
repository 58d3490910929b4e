"""The versions of Victor that this package is made for.

pyproject.toml says the same to installers; a test compares the two.
"""

TESTED = ("0.9.5", "0.12.0", "0.17.0")
"""The versions that the tests run on, oldest first."""

BELOW = "1.0"
"""The first version that is not supported."""

RANGE = f">={TESTED[0]},<{BELOW}"
"""What pip may choose from."""
