"""The page of a name, with its runs in time, and the schedules with their next times."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, expect

from air_executor.client import Client
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.timetable import Timetable
from air_executor.model import parsing
from air_executor.model.definition import Schedule
from air_executor.model.state import JobState
from air_executor.store.job_summary import summary_of
from air_executor.store.schedule_file import schedule_from
from air_executor.store.schedules import Schedules
from air_executor.web import calendar, name_history
from air_executor.web.schedule_list import ScheduleEntry, ScheduleList
from tests.records import make_done
from tests.web.conftest import ServedProject
from tests.web.ended_jobs import put


def ended_run(number: int, took: float, phase: str = "succeeded", name: str = "nightly") -> JobState:
    """Return a run of a name that has ended."""
    spec = parse_job({"name": name, "tasks": [{"id": "work", "command": "true"}]})
    begun = round(time.time()) - 200_000.0 + number * 3600
    state = initial_state(spec, uid=f"{number:08x}", now=begun, id=f"{name}-{number}")
    state.tasks["work"].status = make_done("succeeded", "ok", begun + took, 0)
    state.phase, state.reason = phase, "ok" if phase == "succeeded" else "error"  # type: ignore[assignment]
    state.started_at, state.finished_at = begun, begun + took
    return state


def test_bars_have_the_durations() -> None:
    """The longest has the full height, the oldest is at the left, each stays in its place."""
    runs = [summary_of(ended_run(number, took)) for number, took in ((3, 30.0), (2, 0.0), (1, 60.0))]
    bars, longest = name_history.bars(runs, time.time())
    assert [bar.id for bar in bars] == ["nightly-1", "nightly-2", "nightly-3"]
    assert [bar.height for bar in bars] == [100, name_history.LEAST_HEIGHT, 50]
    assert longest == 60
    assert all(bar.y + bar.height == 100 and bar.x + bar.width <= 100 for bar in bars)
    assert name_history.bars([], 0.0)[0] == []
    many = [summary_of(ended_run(number, 1.0)) for number in range(200, 0, -1)]
    drawn = name_history.bars(many, time.time())[0]
    assert (len(drawn), drawn[-1].id) == (name_history.RUNS_SHOWN, "nightly-200")


def apply(client: Client, folder: Path, name: str, schedule: str) -> None:
    """Apply a job file with a schedule."""
    client.jobs.prepare()
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nschedule: {schedule}\ntasks: [{{command: 'true'}}]\n")
    schedules = Schedules(client.layout)
    found = schedule_from(str(path), time.time(), schedules)
    assert found is not None
    schedules.save(found)


def test_the_list_follows_the_files(tmp_path: Path) -> None:
    """The soonest first; what is paused, deleted or unreadable is seen as that; times go on by themselves."""
    client = Client(tmp_path / ".air-executor")
    apply(client, tmp_path, "often", "{every: 60}")
    apply(client, tmp_path, "daily", '{cron: "0 0 * * *"}')
    listed = ScheduleList(Schedules(client.layout))
    now = time.time()
    soonest = [one.schedule for one in name_history.names((), listed.entries(now))]
    assert [one.name for one in soonest if one is not None] == ["often", "daily"]
    first = soonest[0].next_at if soonest[0] is not None else 0.0
    again = {one.name: one for one in listed.entries(first + 1)}
    assert again["often"].next_at == first + 60
    schedules = Schedules(client.layout)
    paused = schedules.load("often")
    paused.paused = True
    schedules.save(paused)
    Path(client.layout.schedule("daily")).write_text("{")
    listed.changed()
    both = {one.name: one for one in listed.entries(now)}
    assert both["often"].paused
    assert "daily.json" in (both["daily"].problem or "")
    schedules.delete("daily")
    listed.changed()
    assert listed.named("daily", now) is None


def test_names_in_the_list() -> None:
    """Each with its newest runs, in words too; those with a time to come first, then those that ran last."""
    runs = [summary_of(ended_run(number, 1.0, "failed" if number == 30 else "succeeded")) for number in range(1, 31)]
    later = summary_of(ended_run(40, 1.0, name="weekly"))
    soon = ScheduleEntry("soon", (0, 0), next_at=5.0)
    found = name_history.names([*runs, later], [soon])
    assert [one.name for one in found] == ["soon", "weekly", "nightly"]
    assert [run.id for run in found[2].runs][:2] == ["nightly-30", "nightly-29"]
    assert len(found[2].runs) == name_history.RUNS_IN_LIST
    assert found[2].told == "1 failed, 19 succeeded"


def test_the_page_of_a_name(served: ServedProject, look: Callable[..., Page]) -> None:
    """Bars that lead to their runs, without scripts, too; the policy stays strict."""
    for number in range(1, 31):
        phase = "failed" if number in (12, 25) else "succeeded"
        put(served.client, ended_run(number, 60 + (number * 37) % 50, phase))
    served.client.wake("nightly-1")
    apply(served.client, served.root, "nightly", '{cron: "0 2 * * *"}')
    page = look(f"{served.url}/names/nightly", java_script_enabled=False)
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly")
    expect(page.locator("#head")).to_contain_text("next at")
    expect(page.locator(".history a")).to_have_count(30)
    expect(page.locator(".history rect.failed")).to_have_count(2)
    boxes = [box for bar in page.locator(".history rect").all() if (box := bar.bounding_box()) is not None]
    assert len({round(box["height"]) for box in boxes}) > 5
    assert all(box["width"] >= 5 for box in boxes)
    page.screenshot(path=f"{served.root}/history.png", full_page=True)
    page.get_by_role("link", name="nightly-12 failed").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("nightly-12")
    page.get_by_role("link", name="nightly", exact=True).click()
    expect(page.locator(".history")).to_be_visible()


def test_schedules_are_listed(served: ServedProject, look: Callable[..., Page]) -> None:
    """With their next times, the soonest first, on a phone too; a name leads to its history."""
    for number in range(24):
        later = datetime.now(UTC) + timedelta(days=26 - number)
        apply(served.client, served.root, f"job-{number:02d}", f"{{cron: 0 12 {later.day} {later.month} *}}")
    apply(served.client, served.root, "job-24", "{every: 1h}")
    page = look(served.url, viewport={"width": 390, "height": 800})
    expect(page.locator("#names li")).to_have_count(20)
    expect(page.locator("#names li").first).to_contain_text(re.compile(r"^\s*job-24\b.*next at", re.DOTALL))
    expect(page.locator("#names")).to_contain_text("5 more")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=f"{served.root}/schedules.png", full_page=True)
    page.get_by_role("link", name="job-24", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("job-24")


def entry(name: str, now: float, **schedule: object) -> ScheduleEntry:
    """Return a schedule as the page knows it."""
    made = ScheduleEntry(name, (0, 0), timetable=Timetable(name, parsing.read(Schedule, schedule)), next_at=now)
    made.advance(now)
    return made


def test_a_calendar_of_two_weeks() -> None:
    """From this Monday on: only what comes, each day in order, and what comes often is counted to a limit."""
    now = datetime(2026, 3, 25, 12, 0, tzinfo=UTC).timestamp()  # a Wednesday
    night = entry("night", now, cron="30 1 * * 1-5", timezone="UTC")
    often = entry("often", now, every=60)
    once = entry("once", now, cron="0 9 29 2 *", timezone="UTC")
    days = calendar.days_of([night, often, once], now)
    assert [day.date.strftime("%a") for day in days] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] * 2
    assert [[one.name for one in day.entries] for day in days[:4]] == [[], [], ["often"], ["often", "night"]]
    assert [day.date.day for day in days if any(one.name == "night" for one in day.entries)] == [
        26,
        27,
        30,
        31,
        1,
        2,
        3,
    ]
    first = days[2].entries[0]
    assert (first.first, first.times, first.more) == (now + 60, calendar.MOST_TIMES, True)
    assert days[4].entries[0].first == days[4].begin
    many = [entry(f"s{number:03d}", now, every=3600) for number in range(calendar.SCHEDULES + 5)]
    assert {len(day.entries) for day in calendar.days_of(many, now)[2:]} == {calendar.SCHEDULES}


def test_the_page_of_the_calendar(served: ServedProject, look: Callable[..., Page]) -> None:
    """It is reached from the list; a name leads to its history; today is marked."""
    assert "Nothing starts by itself" in served.get("/schedules").text
    apply(served.client, served.root, "hourly", "{every: 1h}")
    page = look(served.url)
    page.get_by_role("link", name="Calendar").click()
    today = page.locator("#calendar > li[aria-current=date]")
    expect(today).to_have_count(1)
    expect(page.locator("#calendar > li")).to_have_count(14)
    page.screenshot(path=f"{served.root}/calendar.png", full_page=True)
    page.get_by_role("link", name="hourly").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("hourly")


def test_names_that_do_not_exist(served: ServedProject) -> None:
    """Are not found, and hostile ones are no paths and no markup."""
    assert served.get("/names/nobody").status == 404
    assert served.get("/names/..%2f..%2fetc").status == 404
    answer = served.get("/names/%3Cscript%3E")
    assert answer.status == 404
    assert "<script>" not in answer.text.replace("<script src=", "")


def test_when_a_job_is_expected(served: ServedProject, look: Callable[..., Page]) -> None:
    """Until it has ended; late, in the reason too."""
    served.submit("slow", [{"id": "wait", "command": "sleep 60", "grace": 1}], late_after=0.001)
    page = look(f"{served.url}/jobs/slow")
    expect(page.locator(".facts")).to_contain_text("Expected by")
    expect(page.locator("#head")).to_contain_text("it is late: it was expected by")
