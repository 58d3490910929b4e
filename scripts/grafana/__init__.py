"""The dashboards as data; `build` makes Grafana's JSON of them."""

from __future__ import annotations

from scripts.grafana.errors import ERRORS
from scripts.grafana.model import Dashboard
from scripts.grafana.overview import OVERVIEW
from scripts.grafana.performance import PERFORMANCE
from scripts.grafana.verticals import VERTICALS

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, PERFORMANCE, VERTICALS, ERRORS)
