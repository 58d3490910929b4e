"""Runs an example without a provider: `python ../offline.py app.py`, or `... victor run "Hi"`.

The program, Victor and its numbers are real; only the model is invented: it calls the tool
`ls` once and answers 42 from then on. It runs in an empty folder, with a state folder of its
own that is removed afterwards: your own Victor is neither read nor changed.
"""

from __future__ import annotations

import logging
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path

from victor_otel.demo import ScriptedModel, sandbox
from victor_otel.demo.script import Script, Step, ToolCall, Usage

ANSWER = Step("The answer is 42. Task complete.", usage=Usage(prompt=30, completion=10))
CALL = Step(calls=[ToolCall("ls", {"path": "."})], usage=Usage(prompt=20, completion=5))
MODEL = Script([CALL, ANSWER], side=ANSWER)
PROFILES = 'profiles: {{default: {{provider: vllm, model: scripted, base_url: "{url}"}}}}'


def main() -> None:
    """Runs the program that the command line names, as `python` would."""
    if not sys.argv[1:]:
        sys.exit(__doc__)
    given, *arguments = sys.argv[1:]
    program = Path(given).resolve() if Path(given).exists() else shutil.which(given)
    if program is None:
        sys.exit(f"offline.py: there is no program {given!r}")
    sys.argv = [str(program), *arguments]
    sys.path[0] = str(Path(program).parent)
    # What victor-otel has to say is seen, though the sandbox keeps Victor's log quiet.
    logging.getLogger("victor_otel").addHandler(logging.StreamHandler())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # Victor's API server asks the settings, all others ask the profile.
    os.environ |= {"VICTOR_DEFAULT_PROVIDER": "vllm", "VICTOR_DEFAULT_MODEL": "scripted"}
    with sandbox(), ScriptedModel({"scripted": MODEL}) as model:
        from victor.config.settings import GLOBAL_VICTOR_DIR

        state = Path(GLOBAL_VICTOR_DIR)
        state.mkdir(parents=True, exist_ok=True)
        (state / "profiles.yaml").write_text(PROFILES.format(url=model.url), encoding="utf-8")
        runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()
