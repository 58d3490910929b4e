"""Real work in every area; each scenario proves metrics by an own count (docs/metrics.md)."""

from __future__ import annotations

from tests.scenarios import (
    coding,
    components,
    dataanalysis,
    devops,
    embeddings,
    events,
    interfaces,
    memory,
    ourselves,
    planning,
    process,
    providers,
    rag,
    research,
    retrieval,
    security,
    session,
    skills,
    tools,
    workflows,
)
from tests.scenarios.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *session.SCENARIOS,
    *interfaces.SCENARIOS,
    *tools.SCENARIOS,
    *providers.SCENARIOS,
    *workflows.SCENARIOS,
    *planning.SCENARIOS,
    *memory.SCENARIOS,
    *embeddings.SCENARIOS,
    *retrieval.SCENARIOS,
    *skills.SCENARIOS,
    *coding.SCENARIOS,
    *rag.SCENARIOS,
    *devops.SCENARIOS,
    *dataanalysis.SCENARIOS,
    *research.SCENARIOS,
    *security.SCENARIOS,
    *components.SCENARIOS,
    *events.SCENARIOS,
    *process.SCENARIOS,
    *ourselves.SCENARIOS,
)
