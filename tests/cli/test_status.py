"""`status`: what is shown of jobs, and that nothing in them can steer the terminal."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.state import Done, Queued, Running, TaskState
from air_executor.store import codec
from air_executor.store.job_summary import summary_of
from air_executor.store.presence import pid_namespace
from air_executor.store.this_host import this_host
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import THEN, create, ended
from tests.records import make_attempt, make_spec, make_task

Air = Callable[..., Outcome]


def test_the_table_has_every_job_and_what_is_wrong(air: Air, client: Client) -> None:
    """Jobs, unreadable ones, and that nobody manages the open ones."""
    create(client, "good", ended("a"))
    create(client, "open", make_task("a", {"command": "true"}, queued_by=None, status=Queued()), phase="queued")
    create(client, "broken", ended("a"))
    Path(client.layout.state("broken")).write_text("{")
    done = air("status")
    assert done.code == 0
    assert "good" in done.out
    assert "1 ✓" in done.out
    assert "broken cannot be read" in done.out
    assert "no manager is running" in done.out
    record = json.loads(air("status", "--json").out)
    assert [job["id"] for job in record["jobs"]] == ["good", "open"]
    assert [job["id"] for job in record["unreadable"]] == ["broken"]
    assert record["manager"]["running"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["usage"].update(cost=1e300),
        lambda raw: raw["usage"].update(cost=float("nan")),
        lambda raw: raw["usage"].update(runner_seconds=1e300),
        lambda raw: raw["usage"].update(runner_seconds=10**400),
        lambda raw: raw["usage"].update(work_seconds=float("inf")),
        lambda raw: raw["usage"].update(currency=["EUR"]),
        lambda raw: raw["usage"].update(cost=1, currency="E" * 200),
        lambda raw: raw["usage"].update(other_costs=5),
        lambda raw: raw["usage"].update(other_costs={"EUR": "5"}),
        lambda raw: raw["usage"].update(other_costs={f"C{n}": 1e15 for n in range(500)}),
        lambda raw: raw["spec"].update(labels=["team"]),
        lambda raw: raw["spec"].update(priority="high"),
        lambda raw: raw["spec"].update(late_after=1e300),
        lambda raw: raw["spec"].update(pool={}),
        lambda raw: raw.update(message=["no text"]),
        lambda raw: raw.update(reason="x" * 100_000),
        lambda raw: raw.update(phase=None),
    ],
)
@pytest.mark.parametrize("words", [(), ("--json",), ("--label", "team=a")])
def test_a_forged_state_is_its_jobs_trouble(
    air: Air, client: Client, words: tuple[str, ...], change: Callable[[dict[str, Any]], None]
) -> None:
    """Whatever a `state.json` says that somebody else wrote, the others are listed as without it."""
    create(client, "good", ended("a"), labels={"team": "a"})
    create(client, "forged", ended("a"))
    path = Path(client.layout.state("forged"))
    before = [line for line in air("status").out.splitlines() if line.startswith("good")]
    raw = json.loads(path.read_text())
    change(raw)
    head = json.dumps({**raw, "tasks": 0}, indent=2).removesuffix("0\n}")
    tasks = ",\n    ".join(json.dumps(task, separators=(",", ":")) for task in raw["tasks"])
    path.write_text(f"{head}[\n    {tasks}\n  ]\n}}\n")
    done = air("status", *words)
    assert done.code == 0, done.err
    assert "good" in done.out
    if not words:
        after = [line for line in done.out.splitlines() if line.startswith("good")]
        assert len(after[0]) < len(before[0]) + 40


def test_a_folder_without_jobs(air: Air, client: Client, project: Path) -> None:
    """One that does not exist is perhaps not the one that was meant."""
    client.jobs.prepare()
    assert air("status").out == f"no jobs in {client.layout.root}\n"
    assert air("status", "--state-dir", "gone").out == f"no jobs in {project}/gone, which does not exist\n"


def test_a_quarantined_job_is_no_unknown_one(air: Air, client: Client) -> None:
    """Who asks for it is told what to do, instead of a name that is nearly the same."""
    create(client, "j", ended("a"))
    path = Path(client.layout.state("j"))
    path.rename(f"{path}.corrupt")
    for command in ("status", "explain", "logs", "wait"):
        done = air(command, "j")
        assert done.code == 3
        assert done.err == f"error: job j: {path} is missing; restore it, from git or from *.corrupt beside it\n"


def test_an_unreadable_job_is_named_once(air: Air, client: Client) -> None:
    """By the manager, whose words say what to do, where it has found that too."""
    create(client, "broken", ended("a"))
    Path(client.layout.state("broken")).write_text("{")
    record = {"problems": ["job broken: cannot be read; restart the manager when it can be read"]}
    Path(client.layout.manager).write_text(json.dumps(record))
    assert air("status").out.count("broken") == 1


def test_a_jobs_page_is_the_tree_of_its_tasks(air: Air, client: Client) -> None:
    """Tasks stand under the one that queued them."""
    create(
        client,
        "j",
        ended("root"),
        ended("merge", seq=4),
        ended("child", queued_by="root", seq=2),
        ended("deep", queued_by="child", seq=3),
    )
    lines = air("status", "j").out.splitlines()
    tree = [
        line.split(" succeeded")[0].rstrip() for line in lines if " succeeded " in f"{line} " and "tasks:" not in line
    ][1:]
    assert tree == ["root", "└ child", "  └ deep", "merge"]


def test_the_json_of_a_job_is_its_state_file(air: Air, client: Client) -> None:
    """Nothing more, nothing less."""
    create(client, "j", ended("a"))
    assert json.loads(air("status", "j", "--json").out) == json.loads(Path(client.layout.state("j")).read_text())


def test_many_children_are_cut_and_the_failed_one_is_kept(air: Air, client: Client) -> None:
    """Of a long list those that need attention stay, the rest is counted, and --all shows it."""
    children = [ended(f"c{n}", queued_by="root", seq=n + 2) for n in range(200)]
    children[150] = ended("c150", queued_by="root", phase="failed", message="look at me", seq=152)
    create(client, "j", ended("root"), *children, phase="failed")
    out = air("status", "j").out
    assert "look at me" in out
    assert "… and 180 more: 180 succeeded (--all)" in out
    assert len(out.splitlines()) < 50
    assert len(air("status", "j", "--all").out.splitlines()) > 200


def test_a_group_is_one_line(air: Air, client: Client) -> None:
    """With counts and the first failure; each task with --all or a phase."""
    tasks = [ended(f"load-{n}") for n in range(62)]
    for task in tasks:
        task.group = "load"
    for task in tasks[:3]:
        task.status = Done("failed", "error", "2026-01-31T12:00:00.000Z", 2)
    create(client, "j", *tasks, ended("merge"))
    lines = air("status", "j").out.splitlines()
    shown = [line for line in lines if line.startswith("load")]
    assert len(shown) == 1
    assert "59 ✓ 3 ✗ (load-0: exit code 2)" in shown[0]
    assert sum(line.startswith("load-") for line in air("status", "j", "--all").out.splitlines()) == 62
    assert sum(line.startswith("load-") for line in air("status", "j", "--phase", "failed").out.splitlines()) == 3


def test_a_chain_as_long_as_tasks_like_is_no_problem(air: Air, client: Client) -> None:
    """Tasks may queue tasks without end; showing them does not recurse."""
    create(client, "j", ended("c0"), *(ended(f"c{n}", queued_by=f"c{n - 1}", seq=n + 1) for n in range(1, 3000)))
    done = air("status", "j")
    assert done.code == 0
    assert "more (--all)" in done.out


@pytest.mark.parametrize("text", ["[bold]x[/red]", "\x1b[2J\x1b]0;t\x07", "\u202eabc", "a\nb", "[/]", ":smile:"])
def test_messages_of_tasks_are_only_text(air: Air, client: Client, text: str) -> None:
    """Markup, escape sequences and the like in a message are shown, not obeyed."""
    create(client, "j", ended("a", phase="failed", message=text), phase="failed")
    for command in ("status", "explain"):
        done = air(command, "j")
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert "\u202e" not in done.out
    assert "\x1b" not in air("status", "j", "--json").out
    if text.isprintable():
        assert text in air("status", "j").out


def test_a_page_tells_of_memory_that_has_grown(air: Air, client: Client) -> None:
    """With how much a task was killed and tried again, in the table and as data."""
    task = ended("a", seq=2)
    grown = [make_attempt(1, 0, THEN, 0.5, 2.0, 0.5, "oom", 137, memory_limit=512 << 20)]
    grown += [make_attempt(2, 0, THEN + 3, 0.5, 2.0, 0.5, "ok", 0, memory_limit=768 << 20)]
    task.attempts, task.runs = grown, 2
    create(client, "j", task)
    assert "killed for memory at 512Mi; tried again with 768Mi" in air("status", "j").out
    record = json.loads(air("status", "j", "--json").out)
    assert [one["memory_limit"] for one in record["tasks"][0]["attempts"]] == [512 << 20, 768 << 20]


def test_what_does_not_exist_is_3(air: Air) -> None:
    """Every command that names a job says so in one line."""
    for command in ("status", "logs", "explain", "wait", "report", "cancel", "run"):
        done = air(command, "nobody")
        assert (done.code, done.out) == (3, ""), command
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1


def waiting(name: str = "a", **fields: object) -> TaskState:
    """Return a task that is queued."""
    return make_task(name, {"command": "true", **fields}, status=Queued())


def running(name: str, slot: int = 0, **fields: Any) -> TaskState:  # noqa: ANN401 - fields of a run
    """Return a task that runs."""
    task = make_task(name, {"command": "true"}, status=Running(slot + 1, slot, THEN, **fields))
    task.runs = 1
    return task


def manages(client: Client, **record: object) -> None:
    """Let a manager run, as far as manager.json says."""
    here = {"kind": "lease", "pid": os.getpid(), "boot": this_host().boot, "pid_namespace": pid_namespace()}
    Path(client.layout.manager).write_text(json.dumps({**here, "host": "here", **record}))


def test_running_jobs_come_first_then_failures_then_the_rest(air: Air, client: Client) -> None:
    """Groups, and how many there are of each at the end."""
    create(client, "good", ended("a"))
    create(client, "open", waiting(), phase="queued")
    create(client, "bad", ended("a", phase="failed"), ended("b", seq=2), phase="failed")
    create(client, "works", running("a"), phase="running")
    lines = air("status").out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["works", "bad", "open", "good"]
    assert "1 ✓ 1 ✗" in lines[2]
    assert lines[2].endswith("task a: exit code 0")
    assert "4 jobs: 1 running, 1 failed, 1 queued, 1 succeeded" in lines


def test_nothing_is_cut_silently(air: Air, client: Client) -> None:
    """Of a long group the rest is counted, and --all shows it."""
    for n in range(30):
        create(client, f"j{n}", ended("a"))
    out = air("status").out
    assert "… and 10 succeeded (--all)" in out
    assert len([line for line in out.splitlines() if line.startswith("j") and "✓" in line]) == 20
    assert len([line for line in air("status", "--all").out.splitlines() if "✓" in line]) == 30


def test_jobs_are_chosen_by_phase_label_and_pool(air: Air, client: Client) -> None:
    """All of what is asked for must hold; tasks of a job are chosen by phase."""
    for name, labels, pool in (("a", {"team": "x"}, "gpu"), ("b", {"team": "y"}, "gpu"), ("c", {}, "default")):
        job = create(client, name, ended("t"), ended("u", phase="failed", seq=2), phase="failed")
        job.spec = make_spec({"pool": pool, "labels": labels})
        client.jobs.checkpoint(job, client.layout.tmp)

    def shown(*options: str) -> list[str]:
        return [line.split()[0] for line in air("status", *options).out.splitlines() if " failed " in line]

    assert sorted(shown("--label", "team")) == ["a", "b"]
    assert shown("--label", "team=y") == ["b"]
    assert sorted(shown("--pool", "gpu", "--phase", "failed", "--phase", "queued")) == ["a", "b"]
    assert air("status", "--pool", "none").out == "no such jobs\n"
    assert [job["id"] for job in json.loads(air("status", "--json", "--pool", "default").out)["jobs"]] == ["c"]
    assert "\nt " not in air("status", "a", "--phase", "failed").out
    assert "\nu " in air("status", "a", "--phase", "failed").out
    assert (air("status", "--phase", "nope").code, air("status", "a", "--pool", "gpu").code) == (2, 2)


@pytest.mark.parametrize(
    ("tasks", "phase", "record", "why"),
    [
        ([running("a"), waiting("b")], "running", {"max_runners": 1}, "1 of 1 runners of its job in use"),
        ([waiting("b")], "queued", {"max_runners": 0, "pools": {}}, "0 of 0 runners of the manager in use"),
        ([waiting("b")], "queued", {"max_runners": 8, "pools": {"default": 0}}, "can never start: "),
        ([waiting("b")], "paused", {"max_runners": 8}, "resume it with `air-executor resume j`"),
        ([waiting("b")], "queued", {"max_runners": 8}, "about to start"),
        ([waiting("b")], "queued", {"waiting": {"j": "task b: image x: 3 of 7 layers"}}, "image x: 3 of 7 layers"),
    ],
)
def test_a_job_that_does_not_run_says_why(  # noqa: PLR0917 - fixtures and parameters
    air: Air,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    tasks: list[TaskState],
    phase: str,
    record: dict[str, object],
    why: str,
) -> None:
    """With the limits of the manager that runs, whatever the settings of this shell are."""
    monkeypatch.setenv("AIR_MAX_RUNNERS", "5")
    create(client, "j", *tasks, phase=phase)
    manages(client, **record)
    assert why in air("status").out
    assert why in air("status", "j").out


def test_a_job_that_asks_says_what_and_how_to_answer(air: Air, client: Client) -> None:
    """In both tables, also while no runner is free: an answer needs none."""
    client.submit(parse_job({"id": "j", "tasks": [{"id": "ok", "approve": "Publish 1.2?"}, {"command": "true"}]}))
    create(client, "k", running("a"), phase="running")
    manages(client, max_runners=1)
    said = 'asks "Publish 1.2?": `air-executor approve j ok`, or `reject`'
    assert f"ok {said}" in air("status").out
    lines = air("status", "j").out.splitlines()
    assert lines[0] == f"j queued: ok {said}"
    assert next(line for line in lines if line.startswith("ok ")).endswith(said)


def test_a_group_is_no_task(air: Air, client: Client) -> None:
    """Where it stands for one, its tasks are named; it is the nearest name, too."""
    members = [
        ended(f"load-{place}", seq=number) for number, place in enumerate(("eu", "us", "ap", "af", "sa", "oc"), 1)
    ]
    for one in members:
        one.group = "load"
    create(client, "j", *members, ended("x", seq=7))
    said = "load is a group of job j with 6 tasks; name one of them: load-eu, load-us, load-ap, load-af, load-sa, …"
    said += "; `air-executor status j --all` lists them"
    for command in ("explain", "logs", "cancel", "retry"):
        assert said in air(command, "j", "load").err
    assert "j has no task laod; did you mean load?" in air("rerun", "j", "laod").err


def test_a_paused_job_says_so_once(air: Air, client: Client) -> None:
    """What to do stands beside the job, and not beside each of its tasks; without a manager, it is `run`."""
    create(client, "j", waiting("a"), waiting("b"), phase="paused")
    lines = air("status", "j").out.splitlines()
    assert lines[0] == "j paused: resume it with `air-executor run j`"
    assert [text.split(maxsplit=2)[1:] for text in lines[-2:]] == [["queued", "its job is paused"]] * 2


def test_explain_knows_the_limits_of_the_running_manager(
    air: Air, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They win over the settings of this shell."""
    monkeypatch.setenv("AIR_MAX_RUNNERS", "5")
    create(client, "j", waiting("b"), phase="queued")
    create(client, "k", running("a"), phase="running")
    manages(client, max_runners=1)
    assert "limit reached: the manager has 1 of at most 1 runner" in air("explain", "j").out


def test_every_task_that_does_not_run_says_why(air: Air, client: Client) -> None:
    """Waiting, delayed, kept back by a limit, skipped or failed."""
    create(
        client,
        "j",
        running("now"),
        waiting("next"),
        waiting("later", after=["now"]),
        make_task("delayed", {}, status=Queued(time.time() + 3600)),
        ended("failed", phase="failed", message="boom", seq=3),
        phase="running",
    )
    manages(client, max_runners=8)
    lines = {line.split()[0]: line for line in air("status", "j").out.splitlines() if line}
    assert lines["next"].endswith("1 of 1 runners of its job in use")
    assert lines["later"].endswith("after now")
    assert "starts in" in lines["delayed"]
    assert "boom" in lines["failed"]


def test_the_cost_of_running_work_counts(air: Air, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that has run for an hour at 3600 EUR costs as much before it ends as after."""
    now = THEN + 3600.0
    monkeypatch.setattr(time, "time", lambda: now)
    create(client, "j", running("a", price={"runner": 3600.0}, currency="EUR"), phase="running")
    assert "3600.00 EUR" in air("status").out
    assert "cost 3600.00 EUR (open runs: 3600.00 EUR)" in air("status", "j").out


def test_pending_requests_are_shown(air: Air, client: Client) -> None:
    """Those of the job on its page, all of them on the page of all jobs."""
    create(client, "f", ended("a", phase="failed"), phase="failed")
    create(client, "g", waiting(), phase="queued")
    assert "it applies when one starts" in air("retry", "f").err
    air("cancel", "g", "a")
    assert "2 pending requests: retry f, cancel g a; applied when a manager starts" in air("status").out
    assert "1 pending request: retry f" in air("status", "f").out


def test_pages_have_no_blanks_at_the_end_of_lines(air: Air, client: Client) -> None:
    """Neither in pipes nor below a long reason."""
    create(client, "f", ended("a", phase="failed", message="x " * 50), phase="failed")
    for page in ("status", "status f", "doctor", "doctor --settings", "report"):
        assert [line for line in air(*page.split()).out.splitlines() if line != line.rstrip()] == [], page


def test_a_job_that_has_succeeded_costs_one_file(air: Air, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each is opened once, and its tasks are counted, not parsed."""
    state = create(client, "j0", ended("a"), ended("b", seq=2))
    text = Path(client.layout.state("j0")).read_text()
    work: Counter[str] = Counter()

    def count(owner: object, name: str) -> None:
        whole = getattr(owner, name)

        def counted(*args: Any, **names: Any) -> Any:  # noqa: ANN401 - stands in for any function
            work[name] += 1
            return whole(*args, **names)

        monkeypatch.setattr(owner, name, counted)

    for name in ("open", "stat", "read", "listdir", "scandir"):
        count(os, name)
    for name in ("dump_job", "load_job", "show_job", "read_small"):
        count(codec, name)

    def status_of(jobs: int) -> Counter[str]:
        for n in range(1, jobs):
            Path(client.layout.job(f"j{n}")).mkdir(exist_ok=True)
            Path(client.layout.state(f"j{n}")).write_text(text.replace('"id": "j0"', f'"id": "j{n}"', 1))
        work.clear()
        assert f"{jobs:,} jobs: {jobs:,} succeeded" in air("status").out
        return Counter(work)

    status_of(2)
    few = status_of(100)
    assert status_of(1100) - few == {"open": 1000, "read": 1000}
    assert summary_of(state) == client.jobs.summary("j0")


@pytest.mark.parametrize("damage", ['"phase":"done"', "<<<<<<< HEAD", '"id":"a"'])
def test_a_summary_of_a_damaged_state_is_no_guess(air: Air, client: Client, damage: str) -> None:
    """What no manager writes is read as a whole, and refused."""
    create(client, "j", ended("a"), ended("b", seq=2))
    path = Path(client.layout.state("j"))
    text = path.read_text()
    old = {"<<<<<<< HEAD": '"tasks": [\n'}.get(damage, '"id":"b"' if "id" in damage else '"phase":"succeeded"')
    path.write_text(text.replace(old, f"{damage}\n" if "<" in damage else damage, 1))
    out = air("status").out
    assert "cannot be read" in out if damage != '"id":"a"' else out


def test_verbs_take_several_jobs(air: Air, client: Client) -> None:
    """By id, by label and by pool; one that is refused stops none of the others."""
    for name in ("a", "b", "c"):
        create(client, name, ended("t", phase="failed"), phase="failed")
    assert air("retry", "a", "nobody", "b").code == 3
    assert [one.split()[1] for one in client.requests()] == ["a", "b"]
    job = client.status("c")
    job.spec = make_spec({"labels": {"team": "x"}})
    client.jobs.checkpoint(job, client.layout.tmp)
    assert air("retry", "--label", "team=x").code == 0
    assert client.requests()[-1] == "retry c"
    assert air("retry", "--label", "team=y").code == 3
    assert air("cancel", "--pool", "default").code == 3, "all jobs have ended"
    assert (air("retry").code, air("retry", "a", "--label", "team").code) == (2, 2)


def test_a_second_word_is_a_task_or_a_job(air: Air, client: Client) -> None:
    """A word that is both is refused: it could do what nobody wants."""
    create(client, "a", waiting("t"), waiting("b"), phase="queued")
    create(client, "b", waiting("t"), phase="queued")
    assert air("cancel", "a", "t").code == 0
    assert client.requests() == ["cancel a t"]
    done = air("cancel", "a", "b")
    assert (done.code, "`a --task b`" in done.err) == (2, True)
    assert air("cancel", "a", "--task", "b").code == 0
    assert client.requests()[-1] == "cancel a b"


def test_descriptions_of_any_length_are_shown(air: Air, client: Client) -> None:
    """A job's and its tasks'; what is left out is said, and `--all` and `explain` show it."""
    about = "\n".join(f"Line {number} \x1b[31m of the job." for number in range(30))
    first = make_task("a", {"command": "true", "description": "Gets it.\nThen \x1b[2J more."}, queued_by=None)
    same = [make_task(name, {"command": "true", "description": "One of many."}, queued_by="a") for name in "bcd"]
    create(client, "j", first, *same, description=about)
    text = air("status", "j").out
    assert "Line 9 " in text
    assert "Line 10 " not in text
    assert "… and 20 more lines of the description (--all)" in text
    assert "  Gets it. …\n" in text
    assert text.count("│   One of many.\n") == 1
    everything = air("status", "j", "--all").out
    assert "Line 29 " in everything
    assert "Then " in everything
    explained = air("explain", "j", "a").out
    assert explained.splitlines()[1] == "Gets it."
    assert json.loads(air("explain", "j", "a", "--json").out)["description"].startswith("Gets it.\n")
    assert air("explain", "j").out.count("\n") == 31
    assert "\x1b" not in text + everything + explained
