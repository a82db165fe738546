"""`report`: sums by group, the always-on pool compared with them, and every output format."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli import terminal
from air_executor.client import Client
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.attempt import Attempt
from air_executor.model.state import JobState, Queued, Running
from air_executor.model.times import from_text, to_text
from air_executor.model.usage import Stages, Usage
from air_executor.store.deleted_runs import DeletedRuns
from tests.cli.conftest import Outcome
from tests.records import make_attempt, make_done, make_job, make_task

Air = Callable[..., Outcome]
THEN = 1_700_000_000.0
DAY = 86_400.0
EUROS: Mapping[str, Any] = {"price": {"runner": 36.0}, "currency": "EUR"}


def attempt(number: int, *, at: float = 0.0, reason: str = "ok", work: float = 2.0, **more: Any) -> Attempt:  # noqa: ANN401
    """Return a run of `work` seconds in a runner that existed for one more, spawned so long after `THEN`."""
    cost = 0.01 * (work + 1) if "price" in more else 0.0
    return make_attempt(
        number, 0, THEN + at, 0.5, work, 0.5, reason, 0, waited=0.25, cost=cost, backend="local", **more
    )


def create(
    client: Client,
    name: str,
    *runs: Attempt,
    phase: str = "succeeded",
    archive: bool = False,
    **spec: Any,  # noqa: ANN401
) -> JobState:
    """Put a job with one task, which had these runs, on the volume."""
    fields = {"command": "true", **spec.pop("task", {})}
    state = make_job(name, secrets.token_hex(4), {"max_runners": 1, "on_failure": "stop"} | spec, THEN, phase)
    state.started_at, state.finished_at, state.reason = THEN, THEN + 3, "ok"
    task = make_task("a", fields, queued_by=None, status=make_done(phase, "ok", THEN + 3, 0))
    task.attempts, task.runs = list(runs), len(runs)
    state.tasks = {"a": task}
    state.usage = Usage()
    for run in runs:
        state.usage.add(Stages(run.start, run.work, run.finish), run.cpu, run.cost, run.currency)
    client.jobs.prepare()
    client.jobs.create(state)
    if archive:
        client.jobs.archive(state)
    return state


def data(air: Air, *options: str) -> dict[str, Any]:
    """Return a report as data."""
    done = air("report", "--json", *options)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_report_sums_are_exact(air: Air, client: Client) -> None:
    """Work and idle add up to the runner-seconds, by job and in all, and the pool states its size and window.

    Two of the three runs have the same slot.
    """
    create(client, "a", attempt(1))
    create(client, "b", attempt(1), attempt(2))
    record = data(air)
    assert [group["key"] for group in record["groups"]] == ["a", "b"]
    for part in [*record["groups"], record["total"]]:
        assert part["runner_seconds"] == pytest.approx(part["work_seconds"] + part["idle_seconds"])
    total, pool = record["total"], record["pool"]
    assert (total["runs"], total["runner_seconds"], total["work_seconds"], total["peak_runners"]) == (3, 9.0, 6.0, 2)
    assert (pool["size"], pool["window_seconds"], pool["runner_seconds"]) == (3, 3.25, 9.75)
    assert pool["busy_seconds"] + pool["idle_seconds"] == pool["runner_seconds"]
    assert "66.7%" in air("report").out


def test_a_name_stands_for_its_newest_run(air: Air, client: Client, project: Path) -> None:
    """As for every command; a name without runs is none."""
    (project / "nightly.json").write_text('{"name": "nightly", "tasks": [{"command": "true"}]}')
    for _ in range(2):
        assert air("run", "nightly.json").code == 0
    assert [(group["key"], group["runs"]) for group in data(air, "nightly")["groups"]] == [("nightly-2", 1)]
    assert air("report", "nightlies").code == NotFoundError.exit_code


def test_archived_and_deleted_jobs_count(air: Air, client: Client) -> None:
    """The ledger lives with the jobs, wherever they lie; an id that came back is one group."""
    assert air("report").out.startswith("no ended runs")
    create(client, "a", attempt(1), archive=True)
    create(client, "a", attempt(1, at=100))
    create(client, "b", attempt(1), archive=True)
    assert {g["key"]: g["runs"] for g in data(air)["groups"]} == {"a": 2, "b": 1}
    assert data(air, "a")["total"]["runs"] == 2
    assert air("prune", "--older-than", "0", "--delete").code == 0
    assert {g["key"]: g["runs"] for g in data(air)["groups"]} == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("job", {"one": 2, "two": 1}),
        ("pool", {"default": 2, "gpu": 1}),
        ("queue", {"default": 2, "gpu": 1}),
        ("day", {"2023-11-14": 2, "2023-11-15": 1}),
        ("label=team", {"red": 2, None: 1}),
    ],
)
def test_groups(air: Air, client: Client, by: str, expected: dict[str | None, int]) -> None:
    """By job, pool, day of the end, and label: the task's own, else its job's; by the old name of pools, too."""
    create(client, "one", attempt(1), attempt(2, at=DAY), labels={"team": "blue"}, task={"labels": {"team": "red"}})
    create(client, "two", attempt(1), pool="gpu")
    assert {group["key"]: group["runs"] for group in data(air, "--by", by)["groups"]} == expected
    rows = list(csv.DictReader(io.StringIO(air("report", "--by", by, "--csv").out)))
    assert {row[by] or None: int(row["runs"]) for row in rows} == expected
    done = air("report", "--by", by)
    assert ("(none)" in done.out) == (None in expected)
    assert ("--by queue is deprecated; use --by pool" in done.err) == (by == "queue")


def test_a_month_by_team(air: Air, client: Client) -> None:
    """A run that crosses its end is divided; several keys are columns, and the filters leave one pool."""
    over = from_text("2023-12-01T00:00:00Z") - THEN
    create(client, "one", attempt(1, at=over - 1.5, work=2.0, reason="error", **EUROS), labels={"team": "a"})
    create(client, "two", attempt(1, at=10, **EUROS), pool="gpu", labels={"team": "b"})
    month = ["--since", "2023-11-01", "--until", "2023-12-01"]
    keys = ["--by", "month", "--by", "label=team"]
    found = data(air, *month, *keys)
    assert [(one["key"], one["runs"], one["cost"]) for one in found["groups"]] == [
        (["2023-11", "a"], 0, pytest.approx(0.015)),
        (["2023-11", "b"], 1, pytest.approx(0.03)),
    ]
    assert found["total"]["waste_cost"] == pytest.approx(0.015)
    assert data(air, "--since", "2023-12-01", *keys)["groups"][0]["runs"] == 1
    text = air("report", *month, *keys, "--filter", "label=team=a").out
    assert re.search(r"month +team +runs", text)
    assert "waste: 1.50 runner-seconds (1.50 failed), 0.0150 EUR" in text
    assert "gpu" not in air("report", "--by", "pool", "--filter", "label=team=a").out
    rows = list(csv.DictReader(io.StringIO(air("report", *month, *keys, "--csv").out)))
    assert [(row["month"], row["label=team"]) for row in rows] == [("2023-11", "a"), ("2023-11", "b")]
    for wrong in (["--by", "year"], ["--filter", "x"], ["--since", "2023-12-01", "--until", "2023-12-01"]):
        assert air("report", *wrong).code == BadInputError.exit_code


def test_what_was_deleted_stays_in_the_books(air: Air, client: Client) -> None:
    """`prune --delete` writes the runs down first, in a file for each month; reports are the same before and after."""
    create(client, "one", attempt(1, **EUROS), attempt(2, at=20 * DAY, reason="error", **EUROS), labels={"team": "a"})
    create(client, "two", attempt(1, at=10, **EUROS), pool="gpu", archive=True)
    kept = create(client, "kept", attempt(1, at=30, **EUROS))
    asked = [["--by", "month"], ["--by", "label=team"], ["--by", "day", "--by", "pool"], ["--by", "job"]]

    def sums() -> list[object]:
        return [(found["groups"], found["total"]) for found in (data(air, *words) for words in asked)]

    before = sums()
    text = air("report", "one", "--csv").out
    client.jobs.remove("kept")
    assert air("prune", "--older-than", "0s", "--delete").code == 0
    client.jobs.create(kept)
    assert client.jobs.ids() == ["kept"]
    assert sums() == before
    assert air("report", "one", "--csv").out == text
    ledger = Path(client.layout.ledger)
    assert sorted(path.name for path in ledger.iterdir()) == ["2023-11.jsonl", "2023-12.jsonl"]
    assert "!ledger/*.jsonl" in Path(client.layout.gitignore).read_text(encoding="utf-8")


def test_a_line_of_the_books_counts_once(air: Air, client: Client) -> None:
    """A deletion that was interrupted, half a line, garbage, and a job that is still there add nothing."""
    state = create(client, "one", attempt(1, **EUROS))
    books = DeletedRuns(client.layout)
    books.add(state)
    books.add(state)
    path = Path(client.layout.ledger, "2023-11.jsonl")
    path.write_bytes(path.read_bytes() + b'{"job": 1}\n[]\n\xff\n{"job": "one", "uid')
    assert data(air)["total"]["runs"] == 1
    client.jobs.remove("one")
    assert data(air)["total"]["runs"] == 1
    books.add(create(client, "two", attempt(1, **EUROS)))
    client.jobs.remove("two")
    assert data(air)["total"]["runs"] == 2
    assert air("report", "nobody").code == NotFoundError.exit_code


def test_focus(air: Air, client: Client) -> None:
    """A charge for each job and day, within a billing period; the sum is that of the report."""
    over = from_text("2023-12-01T00:00:00Z") - THEN
    create(client, "one", attempt(1, at=over - 1.5, reason="error", **EUROS), labels={"team": "ä"}, pool="gpu")
    create(client, "two", attempt(1))
    text = air("report", "--focus").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [
        (row["ChargePeriodStart"], row["BillingPeriodStart"], row["BilledCost"], row["x_Runs"]) for row in rows
    ] == [
        ("2023-11-30T00:00:00Z", "2023-11-01T00:00:00Z", "0.015", "0"),
        ("2023-12-01T00:00:00Z", "2023-12-01T00:00:00Z", "0.015", "1"),
    ]
    one = rows[0]
    assert (one["BillingCurrency"], one["ChargeCategory"], one["ServiceCategory"]) == ("EUR", "Usage", "Compute")
    assert (one["ResourceId"], one["SubAccountId"], json.loads(one["Tags"])) == ("one", "gpu", {"team": "ä"})
    assert float(one["PricingQuantity"]) * float(one["ListUnitPrice"]) == pytest.approx(float(one["ListCost"]))
    assert sum(float(row["EffectiveCost"]) for row in rows) == pytest.approx(data(air)["total"]["cost"])
    assert len(list(csv.DictReader(io.StringIO(air("report", "--focus", "--since", "2023-12-01").out)))) == 1
    assert air("report", "--focus", "--csv").code == BadInputError.exit_code


def test_focus_has_no_exponents(air: Air, client: Client) -> None:
    """Its numbers are decimals, however small; prices that differ have ids that differ."""
    runs = [attempt(n, price={"runner": 0.041234567 + n / 1e9}) for n in (1, 2)]
    create(client, "j", *(replace(run, cost=1.5e-7) for run in runs))
    rows = list(csv.DictReader(io.StringIO(air("report", "--focus").out)))
    assert [row["BilledCost"] for row in rows] == ["0.00000015"] * 2
    assert [row["SkuPriceId"] for row in rows] == [f"local-runner-0.04123456{n}-USD" for n in (8, 9)]


def test_since_takes_what_ended_since(air: Air, client: Client) -> None:
    """A duration, a day or a time; the window then lasts until now."""
    create(client, "a", attempt(1), attempt(2, at=DAY), attempt(3, at=2 * DAY))
    assert data(air, "--since", "2023-11-15")["total"]["runs"] == 2
    later = data(air, "--since", "2023-11-16T22:13:22Z")
    assert later["total"]["runs"] == 1
    assert later["pool"]["from"] == later["since"] == "2023-11-16T22:13:22.000Z"
    assert later["pool"]["window_seconds"] > 3 * DAY
    early = data(air, "--since", "2020-01-01")["pool"]
    assert early["from"] == "2023-11-14T22:13:19.750Z", "before the first run there was nothing to have a pool for"
    assert data(air, "--since", "1h")["total"]["runs"] == 0
    for wrong in ("yesterday", "2023-13-01"):
        assert air("report", "--since", wrong).code == BadInputError.exit_code


def test_waste_by_kind(air: Air, client: Client) -> None:
    """What failed without retries left, what was tried again, what was cancelled and what the platform lost."""
    reasons = ("error", "lost", "requeue", "cancelled", "ok", "timeout")
    runs = [attempt(n, at=10 * n, reason=reason, work=n) for n, reason in enumerate(reasons, 1)]
    create(client, "a", *runs, phase="failed")
    total = data(air)["total"]
    kinds = {kind: total[f"waste_{kind}_seconds"] for kind in ("failed", "retried", "cancelled", "lost")}
    assert kinds == {"failed": 7.0, "retried": 2.0, "cancelled": 5.0, "lost": 7.0}
    assert (total["waste_seconds"], total["succeeded"]) == (21.0, 1)
    assert "waste: 21.00 runner-seconds (7.00 failed, 2.00 retried, 5.00 cancelled, 7.00 lost)" in air("report").out


def test_costs_and_the_price_of_a_success(air: Air, client: Client) -> None:
    """Failures are paid for by what succeeds, and the pool costs its seconds at the same price."""
    create(client, "a", attempt(1, reason="error", **EUROS), attempt(2, at=10, **EUROS), attempt(3, at=20, **EUROS))
    record = data(air, "--pool", "2")
    total, pool = record["total"], record["pool"]
    assert (total["cost"], total["currency"]) == (pytest.approx(0.09), "EUR")
    assert total["cost_per_success"] == pytest.approx(0.045)
    assert (pool["size"], pool["given"]) == (2, True)
    assert pool["cost"] == pytest.approx(pool["runner_seconds"] * 0.01)
    assert pool["used_cost"] == pytest.approx(0.09)
    out = air("report").out
    assert "cost EUR" in out
    assert "0.0450" in out


def test_money_of_two_kinds_is_not_added(air: Air, client: Client) -> None:
    """The newest currency has the column; the other one is stated, and nothing is compared in money."""
    dollars: dict[str, Any] = {"price": {"runner": 36.0}, "currency": "USD"}
    create(client, "a", attempt(1, **dollars), attempt(2, at=10, **EUROS))
    record = data(air)
    assert (record["total"]["cost"], record["total"]["currency"]) == (0.03, "EUR")
    assert record["total"]["other_costs"] == {"USD": pytest.approx(0.03)}
    assert record["pool"]["cost"] is None
    assert record["total"]["cost_per_success"] is None
    assert "cost in USD: 0.0300" in air("report").out


def test_a_run_without_a_price_ends_the_comparison_of_costs(air: Air, client: Client) -> None:
    """Else ours would be cheaper than it was."""
    create(client, "a", attempt(1), attempt(2, at=10, **EUROS))
    record = data(air)
    assert (record["total"]["unpriced_runs"], record["pool"]["cost"]) == (1, None)
    assert "1 run had no price" in air("report").err


def test_open_runs_are_told_and_compared(air: Air, client: Client) -> None:
    """A pool is not charged for time that we have used and not committed yet."""
    state = create(client, "a", attempt(1))
    state.tasks["b"] = make_task("b", {"command": "x"}, queued_by=None, status=Running(2, 0, THEN + 10))
    client.jobs.remove("a")
    client.jobs.create(state)
    record = data(air)
    assert record["open"]["runs"] == 1
    assert record["pool"]["used_seconds"] == pytest.approx(3 + record["open"]["runner_seconds"])
    assert record["pool"]["busy_seconds"] == pytest.approx(2 + record["open"]["runner_seconds"])
    out = air("report").out
    assert "open: 1 run, " in out
    assert re.search(r"on demand +0 to 1 ", out)


def test_so_few_workers_that_they_need_longer(air: Air, client: Client) -> None:
    """A window beyond the last runner is told as what it is: that of a pool which would not have finished yet."""
    create(client, "a", attempt(1, work=3), attempt(2, work=3), attempt(3, work=3))
    assert "first run ready until so few workers would have done the work" in air("report", "--pool", "1").out
    assert "first run ready to last runner removed" in air("report").out


def test_what_waited_for_another_job_was_not_ready(air: Air, client: Client) -> None:
    """The time until the job before has ended is nobody's waiting."""
    before = create(client, "before", attempt(1))
    state = create(client, "behind", attempt(1, at=50, work=1))
    state.after_uids = {"before": before.uid}
    run = attempt(1, at=50, work=1)
    state.tasks["a"].attempts = [make_attempt(1, 0, run.spawned, 0.5, 1.0, 0.5, "ok", waited=50.0)]
    client.jobs.remove("behind")
    client.jobs.create(state)
    assert data(air, "behind")["waits"]["mean"] == 50.5, "its own waits, as committed, where the other is not looked at"
    both = data(air)
    assert both["pool"]["window_seconds"] == pytest.approx(52.25)
    assert both["waits"]["p95"] == pytest.approx(47.5)


def test_remarks(air: Air, client: Client, project: Path) -> None:
    """A clock that was set, and a job that cannot be read, are said on stderr; the report is there nevertheless."""
    create(client, "a", attempt(1, clock_stepped=True))
    create(client, "broken", attempt(1))
    Path(client.layout.state("broken")).write_text("{")
    done = air("report")
    assert done.code == 0
    assert "the clock was set during 1 run" in done.err
    assert "job broken is not included" in done.err
    assert [entry["id"] for entry in data(air)["unreadable"]] == ["broken"]


def test_no_currency_is_lost(air: Air, client: Client) -> None:
    """Each row has its own money, whatever currency the newest run was paid in; CSV has a further row for a second."""
    create(client, "a", attempt(1, **EUROS))
    create(client, "b", attempt(1, at=9, **{**EUROS, "currency": "USD"}), attempt(2, at=12, **EUROS))
    create(client, "c", attempt(1, at=100, **{**EUROS, "currency": "USD"}))
    rows = list(csv.DictReader(io.StringIO(air("report", "--csv").out)))
    paid = [(row["job"], row["currency"], round(float(row["cost"]), 6), row["runs"]) for row in rows]
    assert paid == [
        ("a", "EUR", 0.03, "1"),
        ("b", "USD", 0.03, "2"),
        ("b", "EUR", 0.03, ""),
        ("c", "USD", 0.03, "1"),
    ]
    table = air("report").out
    assert "0.0300 EUR" in next(line for line in table.splitlines() if line.startswith("a "))
    assert "0.0300 + 0.0300 EUR" in next(line for line in table.splitlines() if line.startswith("b "))


def test_since_tells_of_runs_without_a_time(air: Air, client: Client) -> None:
    """Of very many runs the oldest are known only as a sum: included if the job is younger, else said to be missing."""
    runs = [attempt(n, at=5 * n) for n in range(1, 151)]
    state = create(client, "many", *runs)
    state.tasks["a"].attempts = runs[50:]
    client.jobs.remove("many")
    client.jobs.create(state)

    def since(at: float) -> tuple[int, int]:
        found = json.loads(air("report", "--json", "--since", to_text(THEN + at)).out)
        return found["total"]["runs"], found["undated_runs"]

    assert since(-60) == (150, 0)
    assert since(100) == (100, 50)
    assert (
        "50 earlier runs of tasks with more than 100 runs not included"
        in air("report", "--since", to_text(THEN + 100)).err
    )
    assert since(500) == (51, 0)


def test_open_runs_cost_what_they_have_used(air: Air, client: Client) -> None:
    """Their price is known from their start."""
    state = make_job("j", "0badcafe", {}, THEN, "running")
    status = Running(1, 0, time.time() - 3600, ready_at=THEN, price={"runner": 2.0}, currency="EUR")
    state.tasks = {"a": make_task("a", status=status)}
    client.jobs.prepare()
    client.jobs.create(state)
    found = data(air)
    assert found["open"]["costs"] == {"EUR": pytest.approx(2.0, rel=0.01)}
    assert found["pool"]["to"] <= to_text(time.time())
    assert "runner-seconds so far, 2.00 EUR" in air("report").out


def test_nothing_is_compared_across_a_clock_that_was_set(air: Air, client: Client) -> None:
    """An hour that never passed is no hour of idle workers: the comparison begins after the run that saw the step."""
    create(client, "a", attempt(1), attempt(2, at=10, work=3600, clock_stepped=True), attempt(3, at=4000))
    found = data(air)
    assert found["total"]["runs"] == 3
    assert found["pool"]["window_seconds"] == pytest.approx(3.25)
    assert found["pool"]["used_seconds"] == 3
    create(client, "b", attempt(1, clock_stepped=True))
    assert data(air, "b")["pool"] is None


def test_advice_is_printed_where_it_helps(air: Air, client: Client) -> None:
    """What twenty runs used, what they asked for, and what would do."""
    runs = [attempt(n, at=10 * n, memory=100 << 20, cpu=0.8) for n in range(1, 21)]
    create(client, "a", *runs, task={"resources": {"memory": 1 << 30, "cpu": 2}})
    out = air("report").out
    assert "a: requests 1Gi memory, uses 100Mi (p95 of 20 runs, maximum 100Mi): 128Mi is enough" in out
    assert "a: requests 2 cpu, uses 0.4 (p95 of 20 runs, maximum 0.4): 0.5 is enough" in out


@pytest.mark.parametrize("label", ["=1+1", "@x", "\x1b[31mred", "a\nb"])
def test_labels_are_only_text(air: Air, client: Client, label: str) -> None:
    """Neither the terminal nor a spreadsheet takes them for anything else."""
    state = create(client, "a", attempt(1))
    state.spec.labels = {"x": label}
    client.jobs.remove("a")
    client.jobs.create(state)
    for options in ((), ("--csv",)):
        out = air("report", "--by", "label=x", *options).out
        assert "\x1b" not in out
        assert not any(line.startswith(("=", "@")) for line in out.splitlines()[1:] if "--csv" in options)


@pytest.mark.parametrize("options", [("--by", "colour"), ("--by", "label="), ("--pool", "0"), ("--csv", "--json")])
def test_wrong_options_are_refused(air: Air, client: Client, options: tuple[str, ...]) -> None:
    """With the exit code for bad input, and nothing printed."""
    done = air("report", *options)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_report_fits_the_terminal(air: Air, client: Client, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """At 80 columns overhead is one number, from 100 on it is shown by stage; no number is cut."""
    for n in range(3):
        runs = [attempt(i, at=1000 * n + i, work=1234.5, **EUROS) for i in range(1, 30)]
        create(client, f"a-job-with-a-rather-long-name-{n}", *runs)
    monkeypatch.setattr(terminal, "WIDE", columns)
    terminal.console.cache_clear()
    out = air("report").out
    terminal.console.cache_clear()
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    assert ("teardown" in out) == (columns >= 100)
    assert "1074.8" in out


def test_a_queued_job_has_no_runs(air: Air, client: Client) -> None:
    """What has not run yet is not in the report, and is no error."""
    state = make_job("j", "00c0ffee", {"max_runners": 1, "on_failure": "stop", "pool": "default"}, THEN)
    state.tasks["a"] = make_task("a", {"command": "x"}, queued_by=None, status=Queued())
    client.jobs.prepare()
    client.jobs.create(state)
    record = data(air)
    assert (record["groups"], record["pool"], record["total"]["runs"]) == ([], None, 0)


def test_a_price_for_no_backend_is_refused(air: Air, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name would be a price that nobody is charged; nothing is submitted."""
    monkeypatch.setenv("AIR_COST_BACKENDS", "dokcer.cpu_hour=1")
    done = air("run", "j", "--", "true")
    assert (done.code, done.out) == (2, "")
    assert "cost.backends: dokcer.cpu_hour: there is no such backend" in done.err
    assert air("status", "j").code == 3
