"""The one place where the demo takes hold of Victor.

Everything is imported when it is asked for, never at the top: the demo chooses Victor's state
folder, and Victor reads that choice while it is being imported. A missing Victor is therefore
one ImportError, raised here.
"""

from __future__ import annotations

import importlib
from typing import Any

from victor_otel.victor.supported import INSTALL


def part(module: str, name: str) -> Any:
    """Give a class or function of Victor by its home."""
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "victor":
            raise
        message = f"the demo runs a real Victor, which is not installed: {INSTALL}"
        raise ImportError(message, name="victor") from error
