"""`air-executor doctor`: the effective settings, and checks of everything they depend on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.flags import BackendOption
from air_executor.cli.session import session_of
from air_executor.cli.table import Cell, Line, line, print_lines, table, terminal_width
from air_executor.cli.terminal import print_json
from air_executor.core.finding import BAD, FINE, WARN, Finding
from air_executor.errors import BadInputError, StoreError
from air_executor.model.plain_text import clean
from air_executor.runner import native
from air_executor.store.presence import read_presence, start_command
from air_executor.store.probe import probe

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.settings import Settings
    from air_executor.store.presence import Presence

STYLES = {FINE: "green", WARN: "yellow", BAD: "bold red"}
MARKS = {FINE: "✓", WARN: "!", BAD: "✗"}
CORRUPT_SHOWN = 10


def doctor(
    ctx: typer.Context,
    backend: BackendOption = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print each effective setting with its source, too.")
    ] = False,
) -> None:
    """Check the settings, the volume, the backend and the jobs.

    Prints one line per check, with a remedy if it did not pass, and a verdict. Exits with 1 if a check failed; warnings
    do not count.
    """
    from air_executor.settings import effective  # noqa: PLC0415

    session = session_of(ctx)
    effective_settings = session.settings(backend=backend)
    client = session.directory()
    from air_executor.manager.event_check import check_events  # noqa: PLC0415
    from air_executor.wiring import check_platform  # noqa: PLC0415

    rows = effective(effective_settings)
    findings = [
        *probe(client.layout.root, {"events": check_events}),
        *_system(),
        _runner(),
        *check_platform(effective_settings),
        *_targets(effective_settings),
        *_prices(effective_settings),
        *_state(client),
    ]
    if session.json:
        print_json(
            {
                "settings": [{"name": name, "value": value, "source": source} for name, value, source in rows],
                "checks": [
                    {"name": f.name, "verdict": f.verdict, "text": f.text, "remedy": f.remedy} for f in findings
                ],
            }
        )
    else:
        if settings:
            print_lines([*_settings(rows), line("")])
        print_lines([*_findings(findings), line(""), _verdict(findings)])
    raise typer.Exit(1 if any(f.verdict == BAD for f in findings) else 0)


def _system() -> Iterator[Finding]:
    shell = "/bin/sh"
    if os.access(shell, os.X_OK):
        yield Finding("shell", FINE, shell)
    else:
        yield Finding("shell", BAD, f"{shell} does not exist", "install a POSIX shell; local runners need one")
    python = shutil.which("python")
    yield (
        Finding(
            "python", FINE, f"local tasks use that of the active environment, else of {os.path.dirname(sys.executable)}"
        )
        if python
        else Finding("python", WARN, "`python` is not on the PATH", "use python3 in commands")
    )


def _runner() -> Finding:
    builds = ", ".join(native.builds())
    if not builds:
        return Finding("runner", FINE, "script for a POSIX shell; an installation with a C compiler has a native one")
    other = "" if native.this_machine() in native.builds() else "; local tasks use the script for a POSIX shell"
    return Finding("runner", FINE, f"native, for Linux on {builds}{other}")


def _targets(settings: Settings) -> Iterator[Finding]:
    """Check the URLs of the targets of notifications, without asking them anything."""
    from air_executor.notify.targets import Targets  # noqa: PLC0415 - see the module

    folder = None if settings.secrets_dir is None else str(settings.secrets_dir)
    targets = Targets(folder, os.environ)
    for name in sorted({*targets.names(), *settings.notify}):
        problem = targets.problem(name)
        if problem is None:
            yield Finding("notify", FINE, f"target {name}; to try it: `air-executor notify {name}`")
        else:
            yield Finding("notify", BAD, f"target {name}: {problem}", f"correct AIR_NOTIFY_{name.upper()}")


def _prices(settings: Settings) -> Iterator[Finding]:
    """Check the file of prices."""
    from air_executor.core.price import FREE  # noqa: PLC0415 - see the module
    from air_executor.settings.price_file import with_price_file  # noqa: PLC0415

    if settings.cost.file is not None:
        try:
            rules = with_price_file(FREE, settings.backend, settings.cost.file).rules
        except BadInputError as error:
            yield Finding("prices", BAD, str(error), "correct AIR_COST_FILE, or the file")
        else:
            yield Finding("prices", FINE, f"rows of {settings.cost.file} for this backend: {len(rules)}")


def _state(client: Client) -> Iterator[Finding]:
    layout = client.layout
    manager = read_presence(layout)
    if manager.running:
        yield Finding("manager", FINE, f"running: {manager.who}")
    elif manager.running is None:
        yield Finding(
            "manager",
            WARN,
            f"started on another host or in another container ({manager.who}); its state is not visible from here",
        )
    elif manager.record and not manager.record.get("until"):
        yield Finding("manager", WARN, f"{manager.end} ({manager.who})", f"start one to recover: `{start_command()}`")
    else:
        yield Finding("manager", FINE, "not running")
    for problem in manager.problems:
        yield Finding("manager", BAD, problem)
    for name, text in manager.undelivered.items():
        yield Finding("notify", WARN, f"target {name}: {text}")
    if manager.backend_problem is not None:
        yield Finding("manager", BAD, f"backend {manager.backend} cannot answer: {manager.backend_problem}")
    jobs = unreadable = 0
    for entry in client.all():
        jobs += 1
        if isinstance(entry, tuple):
            unreadable += 1
            yield Finding(
                "job", BAD, f"{entry[0]}: {entry[1]}", "fix the file or restore it from git; it is never overwritten"
            )
    yield Finding("jobs", BAD if unreadable else FINE, f"total {jobs}, unreadable {unreadable}")
    yield from _corrupt(layout.jobs, client)
    yield from _inbox(client, manager)


def _inbox(client: Client, manager: Presence) -> Iterator[Finding]:
    try:
        waiting = len(client.inbox.pending())
    except StoreError as error:
        yield Finding("inbox", BAD, str(error))
        return
    if waiting and not manager.running:
        yield Finding(
            "inbox", WARN, f"pending requests: {waiting}; no manager is running", f"start one: `{start_command()}`"
        )
    else:
        yield Finding("inbox", FINE, f"pending requests: {waiting}")


def _corrupt(jobs: str, client: Client) -> Iterator[Finding]:
    found = []
    for name in client.jobs.ids():
        with contextlib.suppress(OSError):  # reported as unreadable above
            found += [f"{jobs}/{name}/{file}" for file in os.listdir(f"{jobs}/{name}") if ".corrupt" in file]
    for path in found[:CORRUPT_SHOWN]:
        yield Finding(
            "job",
            BAD,
            f"{path} could not be read and was quarantined",
            "fix it and rename it to state.json, or delete it",
        )
    if len(found) > CORRUPT_SHOWN:
        yield Finding("job", BAD, f"and {len(found) - CORRUPT_SHOWN} more quarantined files")


def _settings(rows: list[tuple[str, str, str]]) -> list[Line]:
    cells = [
        [Cell(name), Cell(value), Cell(source, "bright_black" if source == "default" else "")]
        for name, value, source in rows
    ]
    return table(("setting", "value", "from"), cells, terminal_width())


def _findings(findings: list[Finding]) -> list[Line]:
    """Return a line for each finding, and its remedy below it."""
    size = max((len(one.name) for one in findings), default=0)
    lines: list[Line] = []
    for one in findings:
        mark = Cell(f"{MARKS[one.verdict]}  ", STYLES[one.verdict])
        lines.append([mark, Cell(f"{one.name:<{size}}  "), Cell(clean(one.text))])
        if one.remedy:
            lines.append([Cell(" " * (size + 5)), Cell(clean(f"→ {one.remedy}"), "yellow")])
    return lines


def _verdict(findings: list[Finding]) -> Line:
    failed = sum(one.verdict == BAD for one in findings)
    warned = sum(one.verdict == WARN for one in findings)
    warnings = f"{warned} warning{'' if warned == 1 else 's'}"
    if failed:
        return line(f"✗ {failed} of {len(findings)} checks failed, {warnings}", STYLES[BAD])
    if warned:
        return line(f"! ready, with {warnings}", STYLES[WARN])
    return line(f"✓ ready: all {len(findings)} checks passed", STYLES[FINE])
