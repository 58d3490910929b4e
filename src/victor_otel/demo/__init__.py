"""A real Victor session on a scripted model, with an independent count of what happened in it.

Nothing here knows the instrumentation: whoever wants to see it at work switches it on first, plays
the session, and holds what was exported against the ledger::

    scenario = Scenario(agents=4)
    with sandbox(), ScriptedModel(scenario.scripts) as model:
        ledger = Ledger(model)
        asyncio.run(run_session(model.url, ledger, scenario))
    assert not ledger.problems()
    ledger.expected()  # {("victor_user_sessions_total", frozenset({("interface", "sdk")})): 11}

The model, the agents, their tools and their failures are real; only the words of the model are
invented. No key, no network, no download. Victor is imported inside `sandbox()`, never before;
without victor-ai that raises ImportError.
"""

from victor_otel.demo.expected import Series
from victor_otel.demo.ledger import Ledger
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.sandbox import VictorAlreadyLoadedError, sandbox
from victor_otel.demo.scenario import Scenario
from victor_otel.demo.session import run_session

__all__ = [
    "Ledger",
    "Scenario",
    "ScriptedModel",
    "Series",
    "VictorAlreadyLoadedError",
    "run_session",
    "sandbox",
]
