"""Grafana's JSON of a dashboard, through Grafana's own SDK."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tools.grafana.model import Dashboard, Kind, Panel, Query, Row
from tools.grafana.promql import began, named, of
from victor_otel.alerting.parameters import DEFAULTS, filled
from victor_otel.alerting.render import step

TAG = "victor"
_WIDTH = 24
_ROWS = 1000
"""Ids of rows begin here, out of the way of the panels'."""
_SOURCE = models.DataSourceRef("prometheus", "${datasource}")
_KEPT = "${__url_time_range}&${__all_variables}"
_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
_RUNBOOK = _PROJECT["project"]["urls"]["Runbooks"] + "/${__value.raw}.md"

_Builder = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel | heatmap.Panel
_KINDS: dict[Kind, type[_Builder]] = {
    Kind.LINES: timeseries.Panel,
    Kind.STAT: stat.Panel,
    Kind.BARS: bargauge.Panel,
    Kind.TABLE: table.Panel,
    Kind.HEATMAP: heatmap.Panel,
}

VARIABLES = {
    "job": ("Service", "label_values(victor_requests_total, job)"),
    "instance": ("Process", 'label_values(victor_requests_total{job=~"$job"}, instance)'),
    "vertical": (
        "Vertical, where known",
        'label_values(victor_vertical_usage_total{job=~"$job"}, vertical)',
    ),
    "provider": (
        "Provider, where known",
        'label_values(victor_provider_requests_total{job=~"$job"}, provider)',
    ),
}

_BUILD = of("victor_otel_build_info")
_COUNTED = of("victor_requests_total", 'instance!=""')

ANNOTATIONS: tuple[dict[str, Any], ...] = (
    {
        # One mark where its condition became true, which is the value of the series. By the times
        # of the samples Grafana would fill the graphs for as long as it fires.
        "name": "Alerts",
        "color": "red",
        "expr": f"min by (alertname, severity, topic, job) ({began()})",
        "at_value": True,
        "title": "{{alertname}}",
        "text": "{{severity}} {{job}}",
        "tags": "severity,topic",
    },
    {
        # A process that was not there in the 5 minutes before, since a gap is no start; or one
        # whose totals began again.
        "name": "Starts",
        "color": "blue",
        "expr": named(
            f"(group by (job, instance) ({_BUILD}) "
            f"unless group by (job, instance) (last_over_time({_BUILD}[5m] offset $__interval)) "
            f"or max by (job, instance) (resets({_COUNTED}[$__interval])) > 0)"
        ),
        "title": "{{process}} started",
        "text": "{{job}}",
        "tags": "job",
    },
    {
        "name": "New versions",
        "color": "purple",
        "expr": f"group by (job, version, victor_version) ({_BUILD}) unless "
        "group by (job, version, victor_version) "
        f"(last_over_time({_BUILD}[1h] offset $__interval))",
        "title": "Victor {{victor_version}}, victor-otel {{version}}",
        "text": "{{job}}",
        "tags": "job",
    },
)


def document(dashboard: Dashboard) -> str:
    """The file that Grafana loads."""
    built = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.says)
        .tags([TAG])
        .timezone("browser")
        .time(dashboard.since, "now")
        .refresh(dashboard.refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables([_source(), *map(_variable, dashboard.variables)])
        .link(
            builders.DashboardLink("Victor")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for part in _placed(dashboard.rows):
        if isinstance(part, builders.Row):
            built.with_row(part)
        else:
            built.with_panel(part)
    content: dict[str, Any] = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    # The SDK does not know what an annotation from Prometheus says.
    content["annotations"] = {"list": [_annotation(**each) for each in ANNOTATIONS]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _source() -> builders.DatasourceVariable:
    chosen = models.VariableOption(selected=True, text="Prometheus", value="prometheus")
    return (
        builders.DatasourceVariable("datasource").label("Source").type("prometheus").current(chosen)
    )


def _variable(name: str) -> builders.QueryVariable:
    label, query = VARIABLES[name]
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        # Also what has no such label.
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _annotation(
    *,
    name: str,
    color: str,
    expr: str,
    title: str,
    text: str,
    tags: str,
    at_value: bool = False,
) -> dict[str, Any]:
    source = {"type": _SOURCE.type_val, "uid": _SOURCE.uid}
    return {
        "name": name,
        "datasource": source,
        "enable": True,
        "iconColor": color,
        "expr": expr,
        "step": "15s",
        "useValueForTime": at_value,
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": tags,
    }


def _placed(rows: tuple[Row, ...]) -> Iterator[builders.Row | _Builder]:
    """Rows one below the other; the panels of a collapsed one are inside it."""
    y = 0
    for number, row in enumerate(rows):
        place = models.GridPos(h=1, w=_WIDTH, x=0, y=y)
        shown = builders.Row(row.title).id(_ROWS + number).grid_pos(place)
        panels = [_panel(panel, where) for panel, where in _filled(row.panels, y + 1)]
        if row.collapsed:
            for panel in panels:
                shown.with_panel(panel)
            yield shown
            y += 1
        else:
            yield shown
            yield from panels
            y += 1 + _height(row.panels)


def _filled(panels: tuple[Panel, ...], top: int) -> Iterator[tuple[Panel, models.GridPos]]:
    """Each panel as high as it fits below those before it, and there as far left as it fits."""
    lowest = [top] * _WIDTH
    """Where each column of the grid is free from."""
    for panel in panels:
        starts = range(_WIDTH - panel.width + 1)
        x = min(starts, key=lambda x: (max(lowest[x : x + panel.width]), x))
        y = max(lowest[x : x + panel.width])
        lowest[x : x + panel.width] = [y + panel.height] * panel.width
        yield panel, models.GridPos(h=panel.height, w=panel.width, x=x, y=y)


def _height(panels: tuple[Panel, ...]) -> int:
    return max(place.y + place.h for _, place in _filled(panels, 0))


def said(panel: Panel) -> str:
    """The description of a panel."""
    return filled(template(panel), DEFAULTS)


def template(panel: Panel) -> str:
    """The same before parameters have values; it ends with the panel's alerts."""
    alerts = f"\n\nAlerts: {', '.join(panel.alerts)}." if panel.alerts else ""
    return panel.says + alerts


def _panel(panel: Panel, place: models.GridPos) -> _Builder:
    builder = _KINDS[panel.kind]()
    builder.id(panel.id).title(panel.title).description(said(panel)).grid_pos(place)
    builder.datasource(_SOURCE).unit(panel.unit).no_value(panel.empty)
    builder.targets(
        [_target(panel, *each) for each in zip(ascii_uppercase, panel.queries, strict=False)]
    )
    builder.thresholds(_thresholds(panel))
    builder.min(panel.least)
    if panel.most is not None:
        builder.max(panel.most)
    if panel.decimals is not None:
        builder.decimals(panel.decimals)
    if panel.texts:
        builder.mappings([_words(panel)])
    if panel.detail:
        uid, number = panel.detail
        builder.links([_link("More", f"/d/{uid}?viewPanel=panel-{number}&{_KEPT}")])
    if panel.process:
        chosen = "var-job=${__field.labels.job}&var-instance=${__field.labels.instance}"
        url = f"/d/victor-performance?${{__url_time_range}}&{chosen}"
        builder.data_links([_link("This process alone", url)])
    _style(builder, panel)
    return builder


def _target(panel: Panel, letter: str, query: Query) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
    target.datasource(_SOURCE)
    if query.buckets:
        target.format(PromQueryFormat.HEATMAP)
    elif panel.kind is Kind.TABLE:
        target.format(PromQueryFormat.TABLE)
    else:
        target.format(PromQueryFormat.TIME_SERIES)
    if panel.kind.latest:
        return target.instant()
    if query is _timed(panel):
        target.exemplar(True)
    return target.range()


def _timed(panel: Panel) -> Query | None:
    """The query whose series lead to traces: the last about durations, as each finds the same."""
    timed = [query for query in panel.queries if "_seconds_bucket" in query.expr]
    return timed[-1] if timed else None


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    """The first step is the colour of no value as well, so where that is seen it is neutral."""
    steps = [models.Threshold(None, panel.base)]
    if panel.kind.latest:
        steps = [models.Threshold(None, "text"), models.Threshold(panel.least, panel.base)]
    steps += [models.Threshold(_begins(value), color) for value, color in panel.steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _begins(value: float | str) -> float:
    return step(value, DEFAULTS) if isinstance(value, str) else value


def _words(panel: Panel) -> models.ValueMap:
    return models.ValueMap(
        {
            f"{value:g}": models.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(panel.texts.items())
        }
    )


def _link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url)


def _style(builder: _Builder, panel: Panel) -> None:
    by_value = builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)
    latest = common.ReduceDataOptions().calcs(["lastNotNull"])
    match builder:
        case timeseries.Panel():
            _lines(builder, panel)
        case stat.Panel():
            builder.color_scheme(by_value).reduce_options(latest)
            builder.color_mode(options.BigValueColorMode.VALUE)
            builder.graph_mode(options.BigValueGraphMode.NONE)
            named = len(panel.queries) > 1 or any("{{" in query.legend for query in panel.queries)
            shown = options.BigValueTextMode
            builder.text_mode(shown.VALUE_AND_NAME if named else shown.VALUE)
        case bargauge.Panel():
            builder.color_scheme(by_value).reduce_options(latest)
            builder.orientation(options.VizOrientation.HORIZONTAL)
            builder.display_mode(options.BarGaugeDisplayMode.BASIC)
        case table.Panel():
            _table(builder, panel)
        case heatmap.Panel():
            _heatmap(builder, panel)


def _table(builder: table.Panel, panel: Panel) -> None:
    builder.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    columns = dict(panel.columns)
    builder.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {
                    hidden: True for hidden in ("Time", "Value") if hidden not in columns
                },
                "indexByName": {name: index for index, name in enumerate(columns)},
                "renameByName": columns,
            },
        )
    )
    if panel.sorted_by:
        builder.sort_by([common.TableSortByFieldState().display_name(panel.sorted_by)])
    colored = models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"})
    if panel.texts:
        builder.override_by_name(columns["Value"], [colored])
    if panel.runbooks:
        colors = {
            text: models.ValueMappingResult(color=color, index=index)
            for index, (text, color) in enumerate((("critical", "red"), ("warning", "orange")))
        }
        mapped = models.DynamicConfigValue("mappings", [models.ValueMap(colors)])
        builder.override_by_name("Severity", [colored, mapped])
        leads = {"title": "Runbook", "url": _RUNBOOK, "targetBlank": True}
        builder.override_by_name("Alert", [models.DynamicConfigValue("links", [leads])])


def _heatmap(builder: heatmap.Panel, panel: Panel) -> None:
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("YlOrRd").steps(64)
    builder.calculate(False)
    if panel.queries[0].buckets:
        builder.y_axis(heatmap.YAxisConfig().unit("s"))
    else:
        # 0 is a value as well; without this it would look like no traffic.
        builder.filter_values(heatmap.FilterValueRange().le(-1))
        colors.min(0).max(panel.most or 1)
    builder.color(colors)


def _lines(builder: timeseries.Panel, panel: Panel) -> None:
    builder.fill_opacity(30 if panel.stacked else 0).line_width(1)
    builder.show_points(options.VisibilityMode.AUTO)
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.TABLE)
    legend.placement(options.LegendPlacement.BOTTOM).show_legend(True)
    builder.legend(legend.calcs(["lastNotNull", "max"]))
    hover = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    builder.tooltip(hover.sort(options.SortOrder.DESCENDING))
    if panel.stacked:
        builder.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if panel.steps:
        dashed = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        builder.thresholds_style(dashed)
