"""The parameters of the alerts, as parameters.toml declares them, and the values chosen."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from typing import Any

PLACEHOLDER = re.compile(r"\$\{([\w.]+)(?::(\w+))?\}")
_DURATION = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WORDS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHORT = {"s": "s", "m": "min", "h": "h", "d": "d"}


class ParameterError(ValueError):
    """What was asked for cannot be; the message says what can."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A value that rules may have; texts, as they are written, since PromQL is text."""

    name: str
    unit: str
    default: str
    says: str
    least: str = ""
    most: str = ""
    whole: bool = False
    among: tuple[str, ...] = ()

    @property
    def bounds(self) -> str:
        """What it may be, in words."""
        if self.among:
            return f"one of {', '.join(self.among)}"
        if not self.least:
            return "names of services, such as victor-prod or victor-.*"
        kind = "a duration" if self.unit == "duration" else "a number"
        kind = "a whole number" if self.whole else kind
        return f"{kind} from {self.least} to {self.most}"

    def read(self, text: str) -> str:
        """The value as the rules have it.

        Raises:
            ParameterError: it is no value of this unit, or beyond the bounds.
        """
        value = text.strip()
        if not self._fits(value):
            raise ParameterError(f"{self.name} wants {self.bounds} ({self.unit}), not {text!r}")
        plain = self.unit in {"duration", "regex"}
        return value if plain else _plain(measure(value))

    def _fits(self, value: str) -> bool:
        if self.unit == "regex":
            return _names_services(value)
        if (self.unit == "duration") != bool(_DURATION.fullmatch(value)):
            return False
        try:
            size = measure(value)
        except InvalidOperation:
            return False
        if self.among:
            return size in map(measure, self.among)
        whole = size == size.to_integral_value() or not self.whole
        return whole and measure(self.least) <= size <= measure(self.most)


def _names_services(pattern: str) -> bool:
    """It stands in a string of PromQL in YAML, so it has no quotes, spaces or backslashes."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return re.fullmatch(r"[\w.|*+()/:-]+", pattern) is not None


def measure(value: str) -> Decimal:
    """A number, or the seconds of a duration, to compare with."""
    if found := _DURATION.fullmatch(value):
        return Decimal(int(found[1]) * _SECONDS[found[2]])
    number = Decimal(value)
    if not number.is_finite():
        raise InvalidOperation
    return number


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _percent(share: Decimal) -> str:
    return f"{_plain(share * 100)}%"


def _short(duration: str) -> str:
    return f"{duration[:-1]} {_SHORT[duration[-1]]}"


def _long(duration: str) -> str:
    one = {"1h": "an hour", "1m": "a minute", "1d": "a day", "1s": "a second"}
    return one.get(duration, f"{duration[:-1]} {_WORDS[duration[-1]]}")


_FORMS: Mapping[str, Callable[[str], str]] = {
    "": str,
    "percent": lambda share: _percent(Decimal(share)),
    "complement": lambda share: _percent(1 - Decimal(share)),
    "growth": lambda times: _percent(Decimal(times) - 1),
    "rest": lambda percent: _percent(1 - Decimal(percent) / 100),
    "ratio": lambda percent: _plain(Decimal(percent) / 100),
    "grouped": lambda count: f"{int(count):,}",
    "short": _short,
    "long": _long,
}
"""How a value is written in a text or an expression: `${name:form}`."""


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with `${name}` and `${name:form}` replaced."""
    return PLACEHOLDER.sub(lambda found: _FORMS[found[2] or ""](values[found[1]]), template)


def chosen(assignments: Iterable[str], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """What differs from the defaults after `NAME=VALUE`s, on top of what was chosen before.

    Raises:
        ParameterError: there is no such parameter, it cannot have this value, or two contradict.
    """
    values = {
        name: PARAMETERS[name].read(value)
        for name, value in (before or {}).items()
        if name in PARAMETERS
    }
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ParameterError(f"--set wants NAME=VALUE, not {assignment!r}")
        values[name] = _known(name).read(value)
    everything = all_values(values)
    for low, high in ORDERED.items():
        if measure(everything[low]) > measure(everything[high]):
            raise ParameterError(
                f"{low}={everything[low]} is above {high}={everything[high]}, which is to come "
                f"later: change {low} or {high}"
            )
    return {name: v for name, v in sorted(values.items()) if v != PARAMETERS[name].default}


def all_values(some: Mapping[str, str]) -> dict[str, str]:
    """These, and the defaults of all others."""
    return {**DEFAULTS, **some}


def _known(name: str) -> Parameter:
    if name in PARAMETERS:
        return PARAMETERS[name]
    near = difflib.get_close_matches(name, PARAMETERS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "docs/alerts.md lists all"
    raise ParameterError(f"there is no parameter {name!r}: {hint}")


def _declared(data: Mapping[str, Any]) -> Iterator[Parameter]:
    for group, members in data["parameters"].items():
        if group == "job":
            yield _parameter(data, group, members)
            continue
        for name, declared in members.items():
            yield _parameter(data, f"{group}.{name}", declared)


def _parameter(data: Mapping[str, Any], name: str, declared: Mapping[str, Any]) -> Parameter:
    (unit,) = data["units"].keys() & declared.keys()
    limits = data["units"][unit] | declared
    return Parameter(
        name=name,
        unit=unit,
        default=str(declared[unit]),
        says=declared.get("says") or data["says"][name.rpartition(".")[2]],
        least=str(limits.get("least", "")),
        most=str(limits.get("most", "")),
        whole=limits.get("whole", False),
        among=tuple(map(str, declared.get("among", ()))),
    )


_DATA = tomllib.loads(
    (files("victor_otel.alerting") / "parameters.toml").read_text(encoding="utf-8"),
    parse_float=Decimal,
)
UNITS: Mapping[str, str] = {name: unit["says"] for name, unit in _DATA["units"].items()}
ORDERED: Mapping[str, str] = _DATA["ordered"]
PARAMETERS: Mapping[str, Parameter] = {each.name: each for each in _declared(_DATA)}
DEFAULTS: Mapping[str, str] = {name: each.default for name, each in PARAMETERS.items()}
