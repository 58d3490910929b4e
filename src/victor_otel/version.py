"""The version of victor-otel."""

__version__ = "0.1.0"
