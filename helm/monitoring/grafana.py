"""Dashboards as Grafana's JSON: a few kinds of panels, laid out in rows of 24 columns.

`dashboards.py` has their content. The tests check the JSON against the types in Grafana's npm package @grafana/schema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 42
"""Version of Grafana's dashboard format. Grafana migrates older ones when it loads them; we use no newer fields."""
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${source}"}
CURRENCY = "{{currency}}"
"""In the name of a series: its value is money."""
SIGNS = ("USD", "EUR", "GBP", "JPY", "CHF", "SEK", "PLN", "INR")
"""Currencies whose amounts have their sign; those of others have only the name of the series."""


@dataclass(frozen=True)
class Query:
    """One expression of a panel."""

    expr: str
    legend: str = ""
    """Name of the series; `{{label}}` stands for a label's value."""


@dataclass(frozen=True)
class Panel(ABC):
    """One panel."""

    title: str
    about: str
    """Its description: content and interpretation."""
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 12
    height: int = 8
    decimals: int | None = None
    since: str | None = None
    """Start of the panel's own time range, such as `now/d`; None: the dashboard's range."""
    shift: str | None = None
    """What its time range is moved back by, such as `1M/M`: to the whole month before."""
    steps: Sequence[tuple[float | None, str]] = ((None, "text"),)
    """Colors, each with the value from which on it is used."""

    def json(self) -> dict[str, Any]:
        """Return it as Grafana's JSON, without its position."""
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in self.steps],
            },
            "custom": self.custom(),
        }
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if not defaults["custom"]:
            del defaults["custom"]
        found: dict[str, Any] = {
            "type": self.kind(),
            "title": self.title,
            "description": self.about,
            "datasource": SOURCE,
            "fieldConfig": {"defaults": defaults, "overrides": list(self.signs())},
            "options": self.options(),
            "targets": [self.target(number, query) for number, query in enumerate(self.queries)],
        }
        if self.since is not None:
            found |= {"timeFrom": self.since, "hideTimeOverride": False}
        if self.shift is not None:
            found["timeShift"] = self.shift
        return found

    def signs(self) -> Iterator[dict[str, Any]]:
        """Yield what gives amounts of money the sign of their currency."""
        if any(CURRENCY in query.legend for query in self.queries):
            for name in SIGNS:
                matcher = {"id": "byRegexp", "options": rf"/\b{name}\b/"}
                yield {"matcher": matcher, "properties": [{"id": "unit", "value": f"currency{name}"}]}

    def target(self, number: int, query: Query) -> dict[str, Any]:
        """Return one query as Grafana's JSON."""
        mode = {"range": True, "instant": False} if self.over_time() else {"range": False, "instant": True}
        return {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "editorMode": "code",
            **mode,
        }

    @abstractmethod
    def kind(self) -> str:
        """Return the name of Grafana's panel plugin."""

    def over_time(self) -> bool:
        """Tell whether it shows values over time, not only current ones."""
        return False

    def custom(self) -> dict[str, Any]:
        """Return the plugin's settings of a series."""
        return {}

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the plugin's options."""


@dataclass(frozen=True)
class Number(Panel):
    """One number, or a few side by side."""

    width: int = 6
    height: int = 4

    def kind(self) -> str:
        """See `Panel.kind`."""
        return "stat"

    def options(self) -> dict[str, Any]:
        """See `Panel.options`."""
        return {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }


@dataclass(frozen=True)
class Bars(Panel):
    """One horizontal bar per series."""

    def kind(self) -> str:
        """See `Panel.kind`."""
        return "bargauge"

    def options(self) -> dict[str, Any]:
        """See `Panel.options`."""
        return {
            "displayMode": "basic",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "maxVizHeight": 60,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": False,
            "sizing": "auto",
            "valueMode": "text",
        }


@dataclass(frozen=True)
class Curves(Panel):
    """Values over time."""

    stacked: bool = False

    def kind(self) -> str:
        """See `Panel.kind`."""
        return "timeseries"

    def over_time(self) -> bool:
        """See `Panel.over_time`."""
        return True

    def custom(self) -> dict[str, Any]:
        """See `Panel.custom`."""
        return {
            "drawStyle": "line",
            "fillOpacity": 40 if self.stacked else 0,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if self.stacked else "none"},
        }

    def options(self) -> dict[str, Any]:
        """See `Panel.options`."""
        return {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    """Of its file."""
    title: str
    about: str
    panels: Sequence[Panel]
    since: str = "now-24h"
    tags: Sequence[str] = field(default=("air-executor",))

    def json(self) -> dict[str, Any]:
        """Return it as Grafana's JSON."""
        return {
            "uid": f"air-executor-{self.name}",
            "title": self.title,
            "description": self.about,
            "tags": list(self.tags),
            "schemaVersion": SCHEMA,
            "editable": True,
            "graphTooltip": 1,
            "time": {"from": self.since, "to": "now"},
            "refresh": "30s",
            "timezone": "browser",
            "links": [
                {
                    "type": "dashboards",
                    "title": "Air-Executor",
                    "tags": ["air-executor"],
                    "asDropdown": False,
                    "icon": "external link",
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                    "tooltip": "",
                    "url": "",
                }
            ],
            "templating": {"list": _VARIABLES},
            "panels": list(_laid_out(self.panels)),
        }


_VARIABLES = [
    {"type": "datasource", "name": "source", "label": "Prometheus", "query": "prometheus"},
    {
        "type": "query",
        "name": "job",
        "label": "Installation",
        "description": "Scrape jobs to sum over.",
        "datasource": SOURCE,
        "query": "label_values(air_executor_build_info, job)",
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    },
]


def _laid_out(panels: Iterable[Panel]) -> Iterator[dict[str, Any]]:
    """Yield panels with their positions: left to right, and on to the next row when one is full."""
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        position = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        yield {"id": number, **panel.json(), "gridPos": position}
        x, tallest = x + panel.width, max(tallest, panel.height)
