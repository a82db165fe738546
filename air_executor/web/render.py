"""Templates and responses of the page: all text is escaped and cleaned here, not where it is used.

Task output, messages, labels and results are untrusted text. Templates escape all of it and make control characters
visible. If markup got through all the same, the policy in the headers would keep its scripts from running.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from air_executor.core.job_cost import money
from air_executor.model.plain_text import clean
from air_executor.model.sizes import format_memory
from air_executor.model.times import format_duration, to_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from air_executor.web.graph_layout import PlacedGraph

FOLDER = os.path.dirname(os.path.abspath(__file__))

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class CleanText(str):
    """Text of several lines, already cleaned line by line."""

    __slots__ = ()


class Templates:
    """Renders the templates."""

    @functools.cached_property
    def _environment(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - on the first request
        from markupsafe import Markup  # noqa: PLC0415

        def cleaned(value: object) -> object:
            return clean(value) if isinstance(value, str) and not isinstance(value, Markup | CleanText) else value

        made = Environment(
            loader=FileSystemLoader(os.path.join(FOLDER, "templates")),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=cleaned,
        )
        made.filters |= {
            "duration": format_duration,
            "memory": format_memory,
            "money": money,
            "iso": to_text,
            "moment": lambda seconds: to_text(round(seconds))[:19].replace("T", " "),
            "ago": ago,
            "seconds": lambda value: f"{value:.2f}" if value < 1000 else f"{value:,.0f}",  # noqa: PLR2004
            "data": _data,
            "json": json.dumps,
            "printed": CleanText,  # cleaned as a log
            "prose": prose,
            "brief": brief,
            "one_line": lambda text: " ".join(text[:10_000].split()),
            "predicate": predicate,
        }
        return made

    def page(self, name: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """Return a page as a response."""
        return HTMLResponse(self._environment.get_template(name).render(values), status, HEADERS)

    def picture(self, drawn: PlacedGraph) -> str:
        """Return the graph of a job as a picture of its own, in SVG."""
        style = "".join(
            Path(FOLDER, "static", name).read_text(encoding="utf-8") for name in ("colors.css", "graph.css")
        )
        made = self._environment.get_template("graph.svg").make_module()
        return str(made.graph(drawn, style=style))  # type: ignore[attr-defined]


def ago(seconds: float) -> str:
    """Return an age in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def brief(text: str, longest: int = 200) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def prose(text: str) -> Markup:
    """Return a sentence as markup: what stands between backticks, commands mostly, is code."""
    from markupsafe import Markup, escape  # noqa: PLC0415 - with the first page

    parts = [escape(clean(part)) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one of them stands for itself
        return Markup("`").join(parts)
    shown = (Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))
    return Markup("").join(shown)


def predicate(text: str, kind: str, name: str) -> str:
    """Return a sentence without its subject, because the page shows that in the heading."""
    rest = text.removeprefix(f"{kind} {name} ").removeprefix("is ").removeprefix("was ")
    return rest[:1].upper() + rest[1:]


def _data(value: object) -> CleanText:
    """Return data as readable JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return CleanText("\n".join(map(clean, text.split("\n"))))
