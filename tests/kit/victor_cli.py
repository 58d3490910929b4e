"""Victor's own command line, with embeddings that need no download: `python -m tests.kit.victor_cli URL ...`.

The first argument is the model's URL, the rest goes to `victor`. With WITHOUT_US set, the
plugin does nothing: what Victor is without us.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from victor_otel.demo.sandbox import sandbox
from victor_otel.plugin import OtelPlugin

PROFILES = """
profiles:
  default: {{provider: vllm, model: m, base_url: "{url}"}}
"""

if __name__ == "__main__":
    url, *arguments = sys.argv[1:]
    if os.environ.get("WITHOUT_US"):
        OtelPlugin.register = lambda self, context: None  # type: ignore[method-assign]
    sys.argv = ["victor", *arguments]
    with sandbox():
        from victor.config.settings import GLOBAL_VICTOR_DIR
        from victor.ui.cli import app

        state = Path(GLOBAL_VICTOR_DIR)
        state.mkdir(parents=True, exist_ok=True)
        (state / "profiles.yaml").write_text(PROFILES.format(url=url), encoding="utf-8")
        app()
