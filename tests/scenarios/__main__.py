"""What the scenarios prove and on which versions of Victor, as JSON for docs/metrics.md."""

from __future__ import annotations

import json
import sys

from tests.scenarios import SCENARIOS, genai
from victor_otel.victor.supported import TESTED

if __name__ == "__main__":
    json.dump(
        [
            {
                "name": scenario.name,
                "module": scenario.module,
                "proves": [metric.prometheus_name for metric in genai.proven(scenario)],
                "versions": [version for version in TESTED if scenario.applies(version)],
            }
            for scenario in SCENARIOS
        ],
        sys.stdout,
    )
