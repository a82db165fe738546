"""Jobs and tasks: what is accepted, what is refused with which words, and what they become."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.job_checks import task_ids
from air_executor.core.queue_lines import task_from_request
from air_executor.core.submission import initial_state, parse_job
from air_executor.errors import BadInputError
from air_executor.model.container_checks import check_target, is_image_reference
from air_executor.model.defaults import Defaults
from air_executor.model.job import TASK_FIELDS, Job, Resources, Task, TaskDefaults
from air_executor.model.parsing import dump, dump_json, read_json, read_task, secret_looking, written
from air_executor.model.service import TaskService
from tests.records import queue_line


def refused(**job: object) -> str:
    """Return the message about a job that is refused; what is not given is sound."""
    with pytest.raises(BadInputError) as caught:
        parse_job({"id": "x", "tasks": [{"command": "true"}]} | job)
    return str(caught.value)


def refused_task(**task: object) -> str:
    """Return the message about a job's only task."""
    return refused(tasks=[{"command": "true"} | task])


FULL: dict[str, Any] = {
    "command": ["python", "a.py", 3],
    "env": {"A": "1", "PORT": 80},
    "secrets": ["KEY"],
    "image": "python:3.12-slim",
    "workdir": "sub/folder",
    "mounts": [{"source": "data", "target": "//data/./", "read_only": True}],
    "resources": {"cpu": "500m", "memory": "1.5Gi", "gpu": 1, "memory_growth": 2, "memory_max": "8G"},
    "network": "none",
    "timeout": "1h30m",
    "grace": "5s",
    "retries": 3,
    "retry_delay": "500ms",
    "retry_backoff": 2,
    "retry_jitter": 0.5,
    "retry_max_delay": "10m",
    "delay": 1.5,
    "after": ["b"],
    "when": "always",
    "priority": -2,
    "labels": {"team": "a b", "n": 1},
}

NORMAL: dict[str, Any] = FULL | {
    "command": ["python", "a.py", "3"],
    "env": {"A": "1", "PORT": "80"},
    "mounts": [{"source": "data", "target": "/data", "read_only": True}],
    "resources": {"cpu": 0.5, "memory": 1_610_612_736, "gpu": 1, "memory_growth": 2, "memory_max": 8_000_000_000},
    "timeout": 5400,
    "grace": 5,
    "retry_delay": 0.5,
    "retry_max_delay": 600,
    "labels": {"team": "a b", "n": "1"},
}


def test_every_field_of_a_task_has_one_normal_form() -> None:
    """Seconds, bytes, text; the normal form is JSON, in a fixed order, and is itself accepted unchanged."""
    task = read_task(FULL)
    assert dump(task) == NORMAL
    assert list(dump(task)) == [name for name in TASK_FIELDS if name in NORMAL]
    assert read_task(json.loads(json.dumps(NORMAL))) == task
    assert task_from_request(written(task)) == task


def test_python_takes_python_values() -> None:
    """Durations as timedelta, times as aware datetime, records inside records; all are checked at submit."""
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    made = parse_job(
        Job(
            id="x",
            tasks=[
                Task(
                    command=["a", "b"],
                    timeout=timedelta(minutes=2),  # type: ignore[arg-type]  # checked, and made seconds, at submit
                    not_before=start,  # type: ignore[arg-type]
                    retry_delay=timedelta(seconds=0.5),  # type: ignore[arg-type]
                    resources=Resources(memory="512Mi"),  # type: ignore[arg-type]
                )
            ],
            deadline=timedelta(hours=1),  # type: ignore[arg-type]
        )
    )
    assert dump(made.tasks[0]) == {
        "command": ["a", "b"],
        "resources": {"memory": 512 << 20},
        "timeout": 120,
        "retry_delay": 0.5,
        "not_before": "2026-01-31T12:00:00.000Z",
    }
    assert made.deadline == 3600


def test_python_says_what_it_gives() -> None:
    """In Python, too, a value that equals the field's default wins over the job's defaults if it was given."""
    defaults = TaskDefaults(retries=3, timeout=60, env={"A": "0"})
    tasks = [Task(command="own", retries=0, env={"B": "1"}), Task(command="shared")]
    first, second = parse_job(Job(id="x", tasks=tasks, defaults=defaults)).tasks
    assert (first.retries, first.timeout) == (0, 60)
    assert (second.retries, second.timeout) == (3, 60)
    state = initial_state(parse_job(Job(id="x", tasks=tasks, defaults=defaults)), uid="12345678", now=1.0)
    assert [state.env_of(task) for task in state.tasks.values()] == [{"A": "0", "B": "1"}, {"A": "0"}]


def test_a_job_is_printed_with_what_was_given() -> None:
    """A task has fifty fields: whoever prints one, or sees the state that `submit` returns, wants those that matter."""
    job = Job(id="j", tasks=[Task(command="true", retries=2)])
    assert repr(job) == "Job(id='j', tasks=[Task(command='true', retries=2)])"
    shown = repr(initial_state(job, now=1.0, uid="u"))
    assert shown.startswith(
        "JobState(id='j', uid='u', phase='queued', submitted_at=1.0, tasks={'_1': TaskState(id='_1', "
    )
    assert shown.endswith(" command='true', retries=2)})")


def test_a_job_that_was_checked_can_be_checked_again() -> None:
    """Whoever changes one field of a parsed job changes nothing else of it."""
    job = parse_job({"id": "x", "defaults": {"retries": 3}, "tasks": [{"command": "a", "retries": 0}]})
    again = parse_job(replace(job, max_runners=4))
    assert (again.max_runners, again.tasks) == (4, job.tasks)
    assert parse_job(job) == job


def test_tasks_without_an_id_are_numbered_by_place() -> None:
    """`t<n>`, which nobody else can take."""
    job = Job(id="x", tasks=[Task(command="a"), Task(id="b", command="b"), Task(command="c", after=["b"])])
    assert task_ids(job) == ["_1", "b", "_3"]
    assert list(initial_state(parse_job(job), uid="12345678", now=1.0).tasks) == ["_1", "b", "_3"]


def test_defaults_are_merged_and_kept() -> None:
    """A task's own value wins, even one that equals the field's default; env and labels merge key by key."""
    job = parse_job(
        {
            "id": "x",
            "defaults": {"command": "d", "env": {"A": "0", "B": "0"}, "retries": 3, "timeout": "1m", "delay": 9},
            "tasks": [
                {"command": "own", "env": {"A": "1"}, "retries": 0, "timeout": None},
                {"labels": {"a": "b"}, "not_before": "2026-01-31T12:00:00Z"},
            ],
        }
    )
    defaults = {"command": "d", "env": {"A": "0", "B": "0"}, "timeout": 60, "retries": 3, "delay": 9}
    assert dump(job.defaults) == defaults
    first = {"command": "own", "env": {"A": "1"}, "delay": 9}
    second = {"command": "d", "timeout": 60, "retries": 3, "labels": {"a": "b"}}
    assert [dump(task) for task in job.tasks] == [first, {**second, "not_before": "2026-01-31T12:00:00.000Z"}]
    line = json.dumps({"command": "own", "env": {"A": "1"}, "retries": 0, "timeout": None})
    shared = Defaults(job.defaults)
    assert dump(queue_line(line, shared)) == first
    assert dump(queue_line("{}", shared)) == {n: v for n, v in defaults.items() if n != "env"}
    state = initial_state(job, uid="12345678", now=1.0)
    assert [state.env_of(task) for task in state.tasks.values()] == [{"A": "1", "B": "0"}, {"A": "0", "B": "0"}]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"retries": "three"}, 'retries: must be a whole number between 0 and 1000, got "three"'),
        ({"retries": -1}, "retries: must be a whole number >= 0, got -1"),
        ({"retries": True}, "retries: must be a whole number"),
        ({"timeout": 0}, "timeout: must be longer than nothing, got 0"),
        ({"timeout": "soon"}, "timeout: must be a number of seconds"),
        ({"delay": -1}, "delay: must be a number of seconds"),
        ({"delay": 1, "not_before": "2026-01-31T12:00:00Z"}, "delay: cannot be used together with not_before"),
        ({"not_before": "tomorrow"}, "not_before: must be a time with its zone"),
        ({"not_before": datetime(2026, 1, 1)}, "not_before: must be a time with its zone"),  # noqa: DTZ001
        ({"command": ""}, "command: must not be empty"),
        ({"command": " \n"}, "command: must not be empty"),
        ({"command": []}, "command: must not be empty: its first part"),
        ({"command": [""]}, "command: must not be empty: its first part"),
        ({"command": ["a", None]}, "command[1]: must be text, got nothing"),
        ({"command": ["sleep", 0.5]}, "command[1]: must be text, got 0.5; put it in quotes"),
        ({"command": "a\0b"}, "command: must not contain NUL bytes"),
        ({"command": ["a", "b\0"]}, "command[1]: must not contain NUL bytes"),
        ({"command": "\ud800"}, "command: must not contain half surrogate pairs"),
        ({"command": "a\0"}, "command: must not contain NUL bytes"),
        ({"command": ["a", "\udcff"]}, "command[1]: must be UTF-8, got the byte 0xff"),
        ({"command": {"a": 1}}, "command: must be text for the shell, or a list of arguments"),
        ({"env": {"A": "a\0"}}, "env.A: must not contain NUL bytes"),
        ({"env": {"A": 0.5}}, "env.A: must be text; put it in quotes"),
        ({"env": {"A-B": "1"}}, "env.A-B: is no name of a variable"),
        ({"env": {"AIR_QUEUE": "x"}}, "env.AIR_QUEUE: is set by Air-Executor"),
        ({"env": ["A=1"]}, "env: must be a mapping of variables"),
        ({"secrets": ["../x"]}, "secrets[0]: must be a name"),
        ({"secrets": "KEY"}, "secrets: must be a list"),
        ({"workdir": "../other"}, "workdir: must not contain .."),
        ({"workdir": "a/../../b"}, "workdir: must not contain .."),
        ({"workdir": ""}, "workdir: must be a path"),
        ({"image": "--privileged"}, "image: must be the name of an image"),
        ({"image": "a b"}, "image: must be the name of an image"),
        ({"image": "../containers/other"}, "image: must be the name of an image"),
        ({"image": "a/../../containers/other"}, "image: must be the name of an image"),
        ({"image": "a?b"}, "image: must be the name of an image"),
        ({"image": "Python:3"}, "image: must be the name of an image"),
        ({"image": "a@sha256:12"}, "image: must be the name of an image"),
        ({"image": "a//b"}, "image: must be the name of an image"),
        ({"image": "a:"}, "image: must be the name of an image"),
        ({"image": "a" * 600}, "image: must be the name of an image"),
        ({"mounts": [{"source": "a", "target": "/proc"}]}, "mounts[0].target: must not lie in /proc"),
        ({"mounts": [{"source": "a", "target": "//sys/kernel"}]}, "mounts[0].target: must not lie in /sys"),
        ({"mounts": [{"source": "a", "target": "/dev/sda"}]}, "mounts[0].target: must not lie in /dev"),
        ({"network": "a b"}, 'network: must be "none"'),
        ({"mounts": [{"source": "a"}]}, "mounts[0].target: is missing"),
        ({"mounts": [{"source": "a", "target": "b"}]}, "mounts[0].target: must be an absolute path"),
        ({"mounts": [{"source": "a", "target": "//./"}]}, "mounts[0].target: must be an absolute path"),
        ({"mounts": [{"source": "a", "target": "/b", "ro": True}]}, "mounts[0].ro: is not a field (fields: source,"),
        ({"resources": {"memory": 512}}, 'resources.memory: must be "512Mi"'),
        ({"resources": {"memory": "512mb"}}, 'resources.memory: must be "512Mi"'),
        ({"resources": {"cpu": 0}}, "resources.cpu: must be a number of CPUs"),
        ({"resources": {"gpu": 0.5}}, "resources.gpu: must be a whole number"),
        ({"resources": {"memory_growth": 2}}, "resources.memory: is missing"),
        ({"resources": {"memory": "2G", "memory_max": "1G"}}, "resources.memory_max: must not be less than memory"),
        ({"resources": {"cpus": 1}}, "resources.cpus: is not a field; did you mean cpu?"),
        ({"when": "never"}, 'when: must be "success", "failure" or "always", got "never"'),
        ({"priority": 1.5}, "priority: must be a whole number"),
        ({"labels": {"a": "\n"}}, "labels.a: must be printable text"),
        ({"retry_jitter": 2}, "retry_jitter: must be a number between 0 and 1, got 2"),
        ({"retry_backoff": 0.5}, "retry_backoff: must be a number between 1 and 100"),
        ({"retries": 1000, "retry_backoff": 100}, "retry_backoff: 100 to the power of 1000 retries is too large"),
        ({"retries": 100, "retry_delay": 1, "retry_backoff": 2}, "retry_max_delay: is missing"),
        ({"id": "../x"}, "id: must be letters, digits"),
        ({"id": ".."}, "id: must be letters, digits"),
        ({"id": ".hidden"}, "id: must be letters, digits"),
        ({"id": "-rf"}, "id: must be letters, digits"),
        ({"id": "a."}, "id: must be letters, digits"),
        ({"id": "a b"}, "id: must be letters, digits"),
        ({"id": "\u00e9t\u00e9"}, "id: must be letters, digits"),
        ({"id": "a" * 65}, "id: must be letters, digits"),
        ({"id": "a\n"}, "id: must be letters, digits"),
        ({"id": 5}, "id: must be letters, digits"),
        ({"id": "_2"}, 'id: "_2" is what tasks without an id are called'),
        ({"id": "_3-1"}, 'id: "_3-1" is what tasks without an id are called'),
        ({"after": "b"}, "after: must be a list of ids"),
        ({"after": ["-b"]}, "after[0]: must be letters, digits"),
        ({"after": ["other"]}, "after[0]: no task of this job has the id other"),
        ({"id": "a", "after": ["a"]}, "after[0]: these tasks would wait for each other for ever: a -> a"),
        ({"retry": 3}, "retry: is not a field; did you mean retries?"),
        ({"phase": "succeeded"}, "phase: is not a field"),
    ],
)
def test_a_wrong_task_is_refused_with_its_field(task: dict[str, Any], message: str) -> None:
    """The field as the user wrote it, what is wrong, what is accepted: one line."""
    shown = refused_task(**task)
    assert shown.startswith(f"tasks[0].{message}")
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"id": "../x"}, "id: must be letters, digits"),
        ({"id": None}, "id: is missing"),
        ({"tasks": []}, "tasks: must have at least one task"),
        ({"tasks": "true"}, 'tasks: must be a list, got "true"'),
        ({"tasks": ["true"]}, 'tasks[0]: must be a mapping of fields, got "true"'),
        ({"tasks": [{}]}, "tasks[0].command: is missing"),
        ({"max_runners": 0}, "max_runners: must be a whole number >= 1, got 0"),
        ({"max_runners": "4"}, "max_runners: must be a whole number"),
        ({"on_failure": "retry"}, 'on_failure: must be "stop" or "continue"'),
        ({"pool": "a b"}, "pool: must be letters, digits"),
        ({"after": ["x"]}, "after[0]: a job cannot wait for itself"),
        ({"deadline": 0}, "deadline: must be longer than nothing"),
        ({"max_tasks": 0}, "max_tasks: must be a whole number"),
        ({"max_tasks": 1, "tasks": [{"command": "a"}] * 2}, "tasks: are 2, more than max_tasks = 1"),
        ({"defaults": {"id": "a"}}, "defaults.id: is not a field"),
        ({"defaults": {"after": ["a"]}}, "defaults.after: is not a field"),
        ({"defaults": {"retries": -1}}, "defaults.retries: must be a whole number"),
        ({"task": []}, "task: is not a field; did you mean tasks?"),
        ({"tasks": [{"id": "a", "command": "a"}] * 2}, "tasks[1].id: a is the id of tasks[0] too"),
        (
            {"tasks": [{"id": "abc", "command": "a"}, {"command": "a", "after": ["abd"]}]},
            "tasks[1].after[0]: no task of this job has the id abd; did you mean abc?",
        ),
        (
            {"tasks": [{"id": n, "command": "a", "after": a} for n, a in [("a", []), ("b", ["a", "c"]), ("c", ["b"])]]},
            "tasks[1].after[1]: these tasks would wait for each other for ever: b -> c -> b",
        ),
        (
            {"tasks": [{"id": "a", "command": "a", "when": "always"}, {"id": "b", "command": "a", "after": ["a"]}]},
            "tasks[0].when: these tasks would wait for each other for ever: a -> b -> a",
        ),
        (
            {"tasks": [{"command": "a", "retries": 1000}], "defaults": {"retry_backoff": 100}},
            "tasks[0].retry_backoff: 100 to the power of 1000",
        ),
    ],
)
def test_a_wrong_job_is_refused_with_its_field(job: dict[str, Any], message: str) -> None:
    """What one field says, and what fields say of each other."""
    assert refused(**job).startswith(message)


def test_all_problems_come_at_once_but_not_a_thousand() -> None:
    """One line each, after the name of the file; a flood is cut and counted."""
    with pytest.raises(BadInputError) as caught:
        parse_job({"id": ".x", "tasks": [{"command": "a", "retries": -1}, {}]}, "job.yaml")
    lines = str(caught.value).split("\n  ")
    assert lines[0] == "job.yaml: 3 problems"
    assert [line.partition(":")[0] for line in lines[1:]] == ["id", "tasks[0].retries", "tasks[1].command"]
    with pytest.raises(BadInputError) as caught:
        parse_job({"id": "x", "tasks": [{}] * 1000})
    assert str(caught.value).endswith("\n  and 980 more")


def test_an_environment_value_is_never_shown() -> None:
    """It may be a secret, and messages end in logs."""
    assert "hunter2" not in refused_task(env={"PASSWORD": ["hunter2"]})
    assert "hunter2" not in refused_task(env={"PASSWORD": "hunter2\0"})


def test_python_users_get_the_same_words() -> None:
    """What is wrong with a job made in Python is said as for a file."""
    with pytest.raises(BadInputError, match="retries: must be a whole number >= 0, got -1"):
        parse_job(Job(id="x", tasks=[Task(command="x", retries=-1)]))


# Lines that running tasks write


def test_a_queued_line_is_a_task_or_a_job() -> None:
    """An id is optional for a task and required for a job."""
    assert queue_line('{"command": "x"}') == Task(command="x")
    line = b'{"id": "a", "command": ["x"], "delay": "1m"}'
    assert queue_line(line) == Task(id="a", command=["x"], delay=60)
    queued = queue_line('{"job": {"id": "y", "tasks": [{"command": "x"}]}}', Defaults(TaskDefaults(retries=3)))
    assert queued == Job(id="y", tasks=[Task(command="x")])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "is not JSON: column 1"),
        (b"[]", "must be a JSON object"),
        (b'"true"', "must be a JSON object"),
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b'{"command": "a", "command": "b"}', 'the key "command" appears twice'),
        (b'{"command": "a", "delay": NaN}', "NaN is not a number"),
        (b'{"command": "a", "delay": 1e999}', "delay: must be a number of seconds"),
        (b'{"command": "a", "priority": ' + b"9" * 5000 + b"}", "has a number that is too long"),
        (b'{"command":' + b"[" * 100_000, "is nested too deeply"),
        (b'{"command": "\\ud800"}', "command: must not contain"),
        (b"{}", "command: is missing"),
        (b'{"command": "", "id": "_1"}', "task _1: command: must not be empty (column 13); id: "),
        (b'{"job": {}, "command": "x"}', "job: must be the only key"),
        (b'{"job": {"id": "y"}}', "job.tasks: is missing"),
        (b'{"job": []}', "job"),
        (
            b'{"id": "b", "command": "x", "retry": 1}',
            "task b: retry: is not a field; did you mean retries? (column 38)",
        ),
        (b'{"job": {"id": "y", "tasks": [{"cmd": "x"}]}}', "job.tasks[0].cmd: is not a field; did you mean command?"),
        (b'{"command": "x",, "id": "b"}', "is not JSON: column 17: "),
        (b'{"command": "a", "retries": 1000, "retry_backoff": 99}', "retry_backoff: 99 to the power"),
    ],
)
def test_a_bad_line_is_refused_on_one_line(line: bytes, message: str) -> None:
    """Lines are hostile; the message ends in a table."""
    with pytest.raises(BadInputError) as caught:
        queue_line(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["id", "tasks", *TASK_FIELDS]), JSON, max_size=4), st.booleans())
def test_any_json_is_accepted_or_refused_in_words(raw: dict[str, Any], whole_job: bool) -> None:  # noqa: FBT001
    """No value makes it fail in another way, and what is accepted can be stored and read back as the same."""
    line = json.dumps({"job": raw} if whole_job else {"command": "x"} | raw)
    try:
        queued = queue_line(line)
    except BadInputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ways are fine
        return
    assert isinstance(queued, Task)
    assert read_json(Task, dump_json(queued)) == queued


def test_names_that_look_secret_are_found() -> None:
    """They go to a warning at submit; the values are not looked at."""
    env = dict.fromkeys(["API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "MY_SECRET", "AUTH", "PATH", "AUTHOR", "KEYS"], "x")
    assert secret_looking(env) == ["API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "MY_SECRET", "AUTH"]


@pytest.mark.parametrize(
    "image",
    [
        "python",
        "python:3.12-slim",
        "library/python",
        "localhost:5000/team/a_b/c__d/e---f:V1.2_x",
        "[::1]:5000/a",
        "Registry.example/a",
        "sha256:" + "0c" * 32,
        "0c" * 32,
        "a.b/c@sha256:" + "0c" * 32,
        "a:1@sha256:" + "0c" * 32,
    ],
)
def test_images_by_every_name(image: str) -> None:
    """Registry, path, tag, digest and the engine's own ids are names of images."""
    assert is_image_reference(image)


def test_shared_memory_may_be_mounted() -> None:
    """The platform leaves that part of /dev to its users."""
    assert check_target("/dev//shm/") == "/dev/shm"  # noqa: S108 - a place in a container


def test_what_a_task_asks_of_its_pod() -> None:
    """Names and values are those that Kubernetes takes; it comes from the defaults, too."""
    asked = {"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "a/b"}], "service_account": "reader"}
    job = parse_job({"id": "x", "defaults": {"kubernetes": asked}, "tasks": [{"command": "true"}]})
    found = initial_state(job, uid="0badcafe", now=0.0).tasks["_1"].kubernetes
    assert found is not None
    assert (found.node_selector, found.tolerations[0].key, found.service_account) == ({"pool": "gpu"}, "a/b", "reader")
    for wrong, words in (
        ({"node_selector": {"a b": "x"}}, "is no name of a label"),
        ({"node_selector": {"a": "x y"}}, "value of a label"),
        ({"labels": {"a": "x" * 64}}, "value of a label"),
        ({"annotations": {"a": "x\n"}}, "printable text"),
        ({"annotations": {str(number): "" for number in range(51)}}, "at most 50"),
        ({"tolerations": [{"key": ""}]}, "key of a taint"),
        ({"tolerations": [{"key": "a", "effect": "Never"}]}, "NoExecute"),
        ({"tolerations": [{"key": "a", "operator": "In"}]}, "Exists"),
        ({"service_account": "../x"}, "name of an object"),
        ({"priority_class": 3}, "name of an object"),
        ({"host_network": True}, "host_network"),
        ({"config_maps": [{"name": "A", "path": "/etc/x"}]}, "name of an object"),
        ({"secret_files": [{"name": "a", "path": "etc"}]}, "absolute"),
        ({"scratch": [{"path": "/scratch"}]}, "size"),
    ):
        assert words in refused_task(kubernetes=wrong)


def test_only_what_users_may_write_is_listed() -> None:
    """What the manager adds to a queued task is no field of theirs."""
    said = refused_task(zzzzzz=1)
    assert "(fields: id, command, " in said
    assert "unresolved" not in said


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("postgres:16", "postgres"),
        ("registry.example:5000/team/redis_stack@sha256:" + "0" * 64, "redis-stack"),
        ("ghcr.io/x/42-sql.server", "sql-server"),
        ("a" * 60, "a" * 40),
        ("9", "service"),
    ],
)
def test_a_service_has_the_name_of_its_image(image: str, host: str) -> None:
    """Unless it has one of its own: something that can be the name of a host and of a container."""
    assert TaskService(image=image).host == host
    assert TaskService(image=image, name="db").host == "db"


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ([{"image": "redis:7"}, {"image": "redis:6"}], "services: two of them have the same name"),
        ([{"image": "redis:7", "name": "Redis"}], "services[0].name: must be the name of a host"),
        ([{"image": "redis:7", "name": "localhost"}], "services[0].name: must be the name of a host"),
        ([{"image": "redis:7", "name": "a" * 41}], "services[0].name: must be the name of a host"),
        ([{"name": "db"}], "services[0].image: is missing"),
        ([{"image": "redis:7", "ready_timeout": 0}], "services[0].ready_timeout: must be"),
        ([{"image": "redis:7", "ports": [6379]}], "services[0].ports: is not a field"),
        ([{"image": "redis:7", "resources": {"gpu": 1}}], "services[0].resources.gpu: is not a field"),
    ],
)
def test_services_that_are_refused(services: list[dict[str, Any]], words: str) -> None:
    """Each with the field and the reason."""
    assert words in refused_task(services=services)
