"""The dashboards as data; `build` makes Grafana's JSON of them."""

from __future__ import annotations

from tools.grafana.errors import ERRORS
from tools.grafana.model import Dashboard
from tools.grafana.overview import OVERVIEW
from tools.grafana.performance import PERFORMANCE
from tools.grafana.verticals import VERTICALS

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, PERFORMANCE, VERTICALS, ERRORS)
