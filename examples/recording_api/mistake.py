"""More relevant passages than the search returned: that cannot be true."""

from __future__ import annotations

from victor_otel import record

if __name__ == "__main__":
    record.search_accuracy(relevant=5, retrieved=4)
    print("the application goes on")
