"""`air-executor report`: the cost of runs, compared with that of an always-on pool."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.since import since_moment
from air_executor.cli.terminal import console, note, print_json, say, styled
from air_executor.core.cost_query import parse_filter, parse_keys
from air_executor.core.job_cost import CostSums, money
from air_executor.errors import BadInputError
from air_executor.model.plain_text import clean
from air_executor.model.reports import amounts_text
from air_executor.model.sizes import format_memory
from air_executor.model.times import format_duration, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from air_executor.client.job_access import Charges
    from air_executor.core.advice import Advice
    from air_executor.core.always_on import AlwaysOnPool
    from air_executor.core.cost_report import CostReport, Savings

WIDE = 100
"""Minimum width of a terminal for overhead by stage."""
_LARGE = 1000


def report(  # noqa: PLR0917 - a command has its options as arguments
    ctx: typer.Context,
    job: Annotated[
        list[str] | None, typer.Argument(metavar="JOB…", help="Default: all jobs, archived ones included.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was used since then: a duration (24h), a day or a time."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what was used before then: a day (UTC, not in it) or a time."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Group by job, pool, dag, label=NAME, day, week or month (UTC). Repeatable. Default: job.",
        ),
    ] = None,
    filter: Annotated[  # noqa: A002 - the name of the option
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only these: pool=NAME, dag=ID or label=NAME=VALUE. Repeatable."),
    ] = None,
    pool: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Size of the always-on pool to compare with.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the groups as CSV.")] = False,
    focus: Annotated[bool, typer.Option("--focus", help="Print the charges as CSV, as FOCUS 1.2 defines it.")] = False,
) -> None:
    """Show runner-seconds, overhead, waste and cost, compared with an always-on pool.

    The pool has the same load over the same time. Its size is the smallest one without longer waits, and each
    assumption favors it: no startup, no failures, no limits, only the seconds of the work itself.
    """
    session = session_of(ctx)
    from air_executor.core import cost_tables  # noqa: PLC0415 - only this command needs it

    now = time.time()
    start, end = (None if one is None else since_moment(one, now) for one in (since, until))
    keys, filters = ",".join(by or ["job"]), [parse_filter(one) for one in filter or ()]
    parse_keys(keys)
    if "queue" in (by or ()):
        note("warning: --by queue is deprecated; use --by pool")
    if as_csv + focus + session.json > 1:
        raise BadInputError("--csv, --focus and --json exclude each other; use one of them")
    if focus:
        _print_charges(session.client().charges(job or [], start, end, filters))
        return
    budgets = session.settings().cost.limits if session.server_address is None else ()
    found, unreadable = session.client().report(
        job or [], now, by=keys, since=start, until=end, filters=filters, pool_size=pool, budgets=budgets
    )
    if session.json:
        print_json(cost_tables.as_record(found, unreadable))
        return
    if as_csv:
        sys.stdout.write("\n".join(clean(line) for line in cost_tables.as_csv(found).split("\n")))
    else:
        _print(found)
    _note_left_out(unreadable)


def _note_left_out(unreadable: Sequence[tuple[str, str]]) -> None:
    for name, problem in unreadable:
        what = name if "/" in name else f"job {name}"
        note(f"{what} is not included, because it cannot be read: {problem}")


def _print_charges(found: Charges) -> None:
    sys.stdout.write(found.csv)
    if found.left_out:
        what = _count(found.left_out, "earlier run")
        note(f"{what} not included: of tasks with more than 100 runs the days are not known")
    _note_left_out(found.unreadable)


def _print(found: CostReport) -> None:
    if found.groups:
        console().print(_table(found))
    else:
        say("no ended runs" + ("" if found.since is None else f" since {_moment(found.since)} UTC"))
    total = found.total
    lines = []
    if total.waste_seconds:
        parts = ", ".join(f"{_seconds(seconds)} {kind}" for kind, seconds in total.waste.items() if seconds)
        costs = "".join(f", {money(cost)} {name}".rstrip() for name, cost in total.waste_costs.items())
        lines.append(f"waste: {_seconds(total.waste_seconds)} runner-seconds ({parts}){costs}")
    if total.node_wait_seconds:
        lines.append(f"wait for a node: {_seconds(total.node_wait_seconds)} s, not in runner-seconds and cost")
    lines += [f"cost in {name}: {money(cost)}" for name, cost in total.costs.items() if name != (found.currency or "")]
    if total.reported:
        lines.append(f"reported: {amounts_text(total.reported)}")
        per_group = {name: one.reported for name, one in found.groups.items() if one.reported}
        if len(found.groups) > 1:
            lines += [f"  {', '.join(map(_shown, name))}: {amounts_text(used)}" for name, used in per_group.items()]
    lines += _saved(found.reused)
    lines += _trend(found)
    lines += [f"budget {one.limit.name}: {one.text} ({one.share:.0%})" for one in found.budgets]
    if found.open_runs:
        so_far = f"{_seconds(found.open_seconds)} runner-seconds so far"
        so_far += "".join(f", {money(cost)} {name}".rstrip() for name, cost in found.open_costs.items())
        lines.append(f"open: {_count(found.open_runs, 'run')}, {so_far}, included only in the comparison below")
    _print_lines(lines)
    if found.always_on is not None:
        say("")
        console().print(_comparison(found, found.always_on))
        _print_lines(_basis(found, found.always_on))
    advice = [_advice(one) for one in found.advice if one.verdict is not None]
    if advice:
        say("")
        _print_lines(advice)
    for remark in _remarks(found):
        note(remark)


def _trend(found: CostReport) -> list[str]:
    """Return what the window before has cost, and what the month will have cost at its end."""
    lines = []
    if (before := found.previous) is not None and (before.runner_seconds or found.total.runner_seconds):
        used = [
            (found.total.runner_seconds, before.runner_seconds, f"{_seconds(before.runner_seconds)} runner-seconds")
        ]
        for name in sorted({*before.costs, *found.total.costs}):
            cost = before.costs.get(name, 0.0)
            used.append((found.total.costs.get(name, 0.0), cost, f"{money(cost)} {name}".rstrip()))
        parts = [text + (f" ({now / then - 1:+.0%} since)" if then else "") for now, then, text in used]
        lines.append(f"window before ({_moment(before.since)} to {_moment(before.until)} UTC): {', '.join(parts)}")
    if found.forecast is not None:
        costs = ", ".join(f"{money(cost)} {name}".rstrip() for name, cost in found.forecast.costs.items())
        lines.append(f"forecast for {to_text(found.forecast.until - 1)[:7]}: {costs}, if it goes on as in this window")
    return lines


def _shown(name: str | None) -> str:
    return "(none)" if name is None else name


def _saved(reused: Savings) -> list[str]:
    if not reused.tasks:
        return []
    costs = "".join(f", {money(cost)} {name}".rstrip() for name, cost in reused.costs.items())
    seconds = f"{_seconds(reused.seconds)} runner-seconds"
    return [f"cached: {_count(reused.tasks, 'task')} without a run, {seconds}{costs} saved"]


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        console().print(styled(line))


def _table(found: CostReport) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for key in found.by:
        table.add_column(clean(key.removeprefix("label=")), overflow="fold")
    wide = console().width >= WIDE
    names = ["runs", "runner-s", "work", *(["startup", "teardown"] if wide else ["overhead"]), "busy", "waste"]
    if found.currency is not None:
        names += [_cost_name(found), "per success"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for group, one in found.groups.items():
        table.add_row(*(styled(_shown(name)) for name in group), *_cells(one, found.currency, wide=wide))
    if len(found.groups) > 1:
        table.add_row(
            styled("total", "bold"), *[""] * (len(found.by) - 1), *_cells(found.total, found.currency, wide=wide)
        )
    return table


def _cells(one: CostSums, currency: str | None, *, wide: bool) -> list[str]:
    overhead = [one.start_seconds, one.finish_seconds] if wide else [one.idle_seconds]
    cells = [str(one.runs), *map(_seconds, (one.runner_seconds, one.work_seconds, *overhead))]
    cells.append("" if one.efficiency is None else f"{one.efficiency:.1%}")
    cells.append(_seconds(one.waste_seconds) if one.waste_seconds else "")
    if currency is not None:
        each = one.cost_per_success(currency)
        cells += [_amounts(one, currency), "" if each is None or currency not in one.costs else money(each)]
    return cells


def _amounts(one: CostSums, currency: str) -> str:
    """Return what runs cost: in the column's currency, and behind that what was paid in others."""
    others = [f"{money(cost)} {name}" for name, cost in one.costs.items() if name != currency]
    own = [money(one.costs.get(currency, 0.0))] if currency in one.costs or not others else []
    return " + ".join([*own, *others])


def _comparison(found: CostReport, pool: AlwaysOnPool) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("comparison")
    names = ["runners", "runner-s", "busy", "mean wait", "p95 wait"]
    if found.hour_price is not None:
        names.append(_cost_name(found))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    ours = found.compared
    rows = [
        (
            "on demand",
            f"0 to {max(ours.peak_runners, found.open_runs)}",
            found.used_seconds,
            found.used_work,
            found.waits,
        ),
        ("always on", str(pool.size), pool.runner_seconds, pool.busy_seconds, pool.waits),
    ]
    for name, size, seconds, work, waits in rows:
        share = f"{work / seconds:.1%}" if seconds > 0 else ""
        cells = [size, _seconds(seconds), share, format_duration(waits.mean), format_duration(waits.p95)]
        cost = found.cost_of(seconds)
        table.add_row(name, *cells, *([] if cost is None else [money(cost)]))
    return table


def _basis(found: CostReport, pool: AlwaysOnPool) -> list[str]:
    kind = "first run ready to last runner removed"
    if found.since is not None or found.open_runs:
        kind = "as requested" if pool.start == found.since else "first run ready until now"
    elif found.compared.last_gone is not None and pool.end > found.compared.last_gone:
        kind = "first run ready until so few workers would have done the work"
    start, end = _moment(pool.start), _moment(pool.end)
    end = end[11:] if start[:10] == end[:10] else end
    lines = [f"window: {start} to {end} UTC ({format_duration(pool.window_seconds)}), {kind}"]
    if not found.size_given:
        lines.append("always-on pool: the smallest size whose mean and p95 waits are not longer")
    if found.used_seconds > 0 and pool.runner_seconds > 0:
        ratio = pool.runner_seconds / found.used_seconds
        lines.append(f"the always-on pool uses {ratio:.3g} times the runner-seconds of runners on demand")
    return lines


def _cost_name(found: CostReport) -> str:
    return f"cost {found.currency or ''}".rstrip()


def _advice(one: Advice) -> str:
    show = format_memory if one.resource == "memory" else "{:.3g}".format
    text = f"{one.group or '(none)'}: requests {show(one.requested)} {one.resource}, uses {show(one.p95)} "
    text += f"(p95 of {one.runs} runs, maximum {show(one.most)})"
    if one.verdict == "more":
        return f"{text}: at its limit; more {'is safer' if one.resource == 'memory' else 'may be faster'}"
    return f"{text}: {show(one.enough)} is enough"


def _remarks(found: CostReport) -> list[str]:
    total, lines = found.total, []
    if found.currency is not None and total.unpriced:
        lines.append(f"{_count(total.unpriced, 'run')} had no price, so the comparison is in seconds only")
    if total.clock_stepped:
        runs = _count(total.clock_stepped, "run")
        lines.append(f"the clock was set during {runs}: their seconds are unreliable, and the comparison begins later")
    if found.undated_runs:
        runs = _count(found.undated_runs, "earlier run")
        lines.append(f"{runs} of tasks with more than 100 runs not included: when they ended is not known")
    if total.earlier:
        runs = _count(total.earlier, "earlier run")
        lines.append(f"{runs} of tasks with more than 100 runs: included in the sums, not in the comparison")
    return lines


def _moment(seconds: float) -> str:
    return to_text(round(seconds))[:19].replace("T", " ")


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < _LARGE else f"{value:.0f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
