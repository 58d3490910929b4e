"""Queries as they are asked while all is well."""

from __future__ import annotations

import re

import promql_parser

from tools.rules import RULES, Alert

_RECORDED = {rule.name: rule.expr for rule in RULES if not isinstance(rule, Alert)}

_FILTERS = {"==", "!=", "<", "<=", ">", ">=", "unless"}


def relaxed(promql: str) -> str:
    """What a query looks at, whatever its value was at any moment since the stack started.

    Where it reads what a rule records, it is what the rule looks at: in a window in which nothing
    grew, that rule has no series.
    """
    text, before = promql, ""
    while text != before:
        before = text
        text = re.sub(r"\boffset \w+", "", text)
        for name, expr in _RECORDED.items():
            text = re.sub(rf"(?<![\w:]){name}(?![\w:\[{{])", lambda _, expr=expr: f"({expr})", text)
    expr = promql_parser.transform(promql_parser.parse(text), None, _unfiltered)
    return f"last_over_time(({expr.prettify()})[30m:10s])"


def _unfiltered(node: promql_parser.Expr) -> promql_parser.Expr | None:
    filters = isinstance(node, promql_parser.BinaryExpr) and str(node.op) in _FILTERS
    return node.lhs if filters else None
