"""Settings: which source wins, what is refused, and that the documentation says the same."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from air_executor.core.price import Prices
from air_executor.errors import BadInputError
from air_executor.settings import (
    ReaderSettings,
    Settings,
    all_settings,
    effective,
    find_project,
    load,
    locate_state_dir,
    reader_settings,
)

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project folder with a settings file."""
    (tmp_path / "air-executor.toml").write_text(
        'max_runners = 3\nhttp_port = 1\nstate_dir = "st"\nsecrets_dir = "sec"\n'
        "[pools]\ngpu = 2\n[cost]\nrunner_hour = 1\n"
    )
    return tmp_path


def test_the_nearest_source_wins_and_is_named(project: Path) -> None:
    """Flag, then environment, then file, then default; a flag that is not given and an empty variable do not count."""
    env = {"AIR_MAX_RUNNERS": "5", "AIR_HTTP_PORT": "", "AIR_COST_CURRENCY": "EUR", "AIR_EVENTS": "off"}
    settings = load({"max_runners": 7, "poll_interval": None}, env, str(project))
    assert (settings.max_runners, settings.http_port, settings.events) == (7, 1, False)
    assert (settings.cost.runner_hour, settings.cost.currency) == (1.0, "EUR")
    assert settings.pools == {"gpu": 2}
    assert (settings.poll_interval, settings.backend) == (1.0, "local")
    file = str(project / "air-executor.toml")
    wanted = {
        "max_runners": "--max-runners",
        "events": "AIR_EVENTS",
        "cost.currency": "AIR_COST_CURRENCY",
        "http_port": file,
        "pools": file,
        "cost.runner_hour": file,
        "poll_interval": "default",
    }
    assert {name: settings.sources[name] for name in wanted} == wanted
    assert load({}, env, str(project)).max_runners == 5
    assert {name for name, _, _ in effective(settings)} == set(settings.sources) == {a.name for a in all_settings()}


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """As documented."""
    settings = load({}, {}, str(tmp_path))
    assert settings.state_dir == str(tmp_path / ".air-executor")
    assert settings.max_runners == len(os.sched_getaffinity(0))
    assert settings.events is True
    assert set(settings.sources.values()) == {"default"}
    assert settings.warnings == ()


def test_a_path_is_meant_from_where_it_is_written(project: Path) -> None:
    """From the current folder in the environment, from the file's folder in the file."""
    below = project / "a" / "b"
    below.mkdir(parents=True)
    assert load({}, {}, str(below)).state_dir == str(project / "st")
    assert load({}, {}, str(below)).secrets_dir == str(project / "sec")
    assert load({}, {"AIR_SECRETS_DIR": "x"}, str(below)).secrets_dir == str(below / "x")


@pytest.mark.parametrize(
    ("flag", "env", "state_dir", "source"),
    [
        ("x", {"AIR_STATE_DIR": "y"}, "a/x", "--state-dir"),
        (None, {"AIR_STATE_DIR": "../y"}, "y", "AIR_STATE_DIR"),
        (None, {"AIR_STATE_DIR": ""}, "st", "{project}/air-executor.toml"),
        (None, {}, "st", "{project}/air-executor.toml"),
    ],
)
def test_the_state_directory_is_found_alike_by_all(
    project: Path, flag: str | None, env: Mapping[str, str], state_dir: str, source: str
) -> None:
    """The fast way that `status` takes and the full one agree."""
    here = project / "a"
    here.mkdir()
    wanted = (str(project / state_dir), source.format(project=project))
    assert locate_state_dir(flag, env, str(here)) == wanted
    settings = load({"state_dir": flag}, env, str(here))
    assert (settings.state_dir, settings.sources["state_dir"]) == wanted


def test_the_project_is_the_nearest_folder_that_has_one(tmp_path: Path) -> None:
    """A state directory or a settings file makes a project; the current folder is one where there is none."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(str(deep)) == str(deep)
    (tmp_path / ".air-executor").mkdir()
    assert find_project(str(deep)) == str(tmp_path)
    (tmp_path / "a" / "air-executor.toml").touch()
    assert find_project(str(deep)) == str(tmp_path / "a")


def test_a_strangers_project_above_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to a shared parent could otherwise have us run their jobs."""
    here = tmp_path / "a"
    here.mkdir()
    (tmp_path / ".air-executor").mkdir()
    owner = os.stat(tmp_path / ".air-executor").st_uid
    if owner == 0:
        os.chown(tmp_path / ".air-executor", 12345, -1)
        owner = 12345
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert find_project(str(here)) == str(here)
    assert find_project(str(tmp_path)) == str(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert find_project(str(here)) == str(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AIR_MAX_RUNNERS", "many", 'must be a whole number between 1 and 100000, got "many"'),
        ("AIR_MAX_RUNNERS", "0", "must be a whole number between 1"),
        ("AIR_MAX_RUNNERS", "\u0663", "must be a whole number between 1"),
        ("AIR_POOLS", "gpu", "the limit of gpu must be a whole number"),
        ("AIR_POOLS", "gpu=1,gpu=2", "names the pool gpu twice"),
        ("AIR_POOLS", ".gpu=1", "'.gpu' is not a valid id"),
        ("AIR_POLL_INTERVAL", "0", "must be at least 10ms"),
        ("AIR_POLL_INTERVAL", "often", "must be a number of seconds"),
        ("AIR_EVENTS", "maybe", "must be true or false"),
        ("AIR_NAME_PREFIX", "a" * 13, "must be at most 12 characters"),
        ("AIR_NAME_PREFIX", "Air", "'Air' is not a valid id"),
        ("AIR_HTTP_PORT", "65536", "must be a whole number between 0 and 65535"),
        ("AIR_COST_RUNNER_HOUR", "nan", "must be a number that is not negative"),
        ("AIR_COST_RUNNER_HOUR", "-1", "must be a number that is not negative"),
        ("AIR_COST_CURRENCY", "gold bars", "must be at most 12 characters without spaces"),
        ("AIR_COST_VALID_FROM", "yesterday", "must be a day, like 2026-01-31"),
        ("AIR_COST_VALID_FROM", "2026-02-31", "must be a day, like 2026-01-31"),
        ("AIR_COST_BACKENDS", "docker=1", "docker: must be a backend and a price"),
        ("AIR_COST_BACKENDS", "docker.day=1", "docker.day: must be a backend and a price"),
        ("AIR_COST_BACKENDS", "docker.cpu_hour=-1", "docker.cpu_hour must be a number that is not negative"),
        ("AIR_COST_BACKENDS", "Docker.cpu_hour=1", "Docker.cpu_hour 'Docker' is not a valid id"),
        ("AIR_TOKEN", "hunter 2", "must be ASCII text without spaces"),
        ("AIR_TOKEN", "hunter" * 1000, "must be ASCII text without spaces, of at most 4096 characters"),
        ("AIR_STATE_DIR", "a\0", "must be a path"),
        ("AIR_DOCKER_MEMORY", "9" * 5000, 'must be "512Mi", "2Gi"'),
        ("AIR_DOCKER_USER", "0:1", "must be the numbers of a user and a group other than root"),
        ("AIR_DOCKER_PULL", "Never", 'must be missing, always or never, got "Never"'),
        ("AIR_DOCKER_CPUS", "0", "must be a number of CPUs, like 2 or 0.5"),
        (
            "AIR_DOCKER_ALLOW_NETWORKS",
            "a,,b",
            "must be text of at most 4096 characters without",
        ),
        ("AIR_DOCKER_ALLOW_NETWORKS", ",".join("n" * 1001), "must have at most 1000 parts"),
        ("AIR_KUBERNETES_CLAIM", "A", "must be the name of an object of Kubernetes"),
        ("AIR_KUBERNETES_SUB_PATH", "a/../b", "must be a path within the volume"),
    ],
)
def test_a_wrong_value_is_refused_by_its_source(tmp_path: Path, variable: str, value: str, message: str) -> None:
    """The variable, what is accepted, what was given; but never a token."""
    with pytest.raises(BadInputError) as caught:
        load({}, {variable: value}, str(tmp_path))
    assert str(caught.value).startswith(f"{variable}: {message}")
    assert "hunter" not in str(caught.value)


def test_a_key_is_compared_within_its_table(tmp_path: Path) -> None:
    """The name of the table alone is no resemblance."""
    (tmp_path / "air-executor.toml").write_text("[docker]\nimgae = 3\n")
    with pytest.raises(BadInputError) as caught:
        load({}, {}, str(tmp_path))
    assert str(caught.value).endswith("docker.imgae is not a setting")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_runner = 3\n", "max_runner is not a setting; did you mean max_runners?"),
        ("[cost]\nprice = 3\n", "cost.price is not a setting"),
        ("cost = 3\n", "cost is not a setting"),
        ('max_runners = "x"\n', 'max_runners: must be a whole number between 1 and 100000, got "x"'),
        ("max_runners = true\n", "max_runners: must be a whole number"),
        ("pools = [1]\n", "pools: must be limits by pool"),
        ("events = 1\n", "events: must be true or false"),
        ("state_dir = 1\n", "state_dir: must be a path"),
        ("max_runners = \n", "is not TOML: Invalid value (at line 1, column 15)"),
        ('token = "\udcff"\n', "is not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    """A misspelt key in a file is an error: the file is ours alone."""
    file = tmp_path / "air-executor.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadInputError) as caught:
        load({}, {}, str(tmp_path))
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_flag_that_sets_nothing_is_a_mistake(tmp_path: Path) -> None:
    """Whoever passes flags by name hears of a misspelt one."""
    with pytest.raises(BadInputError, match="max_runner is not a setting; did you mean max_runners"):
        load({"max_runner": 1}, {}, str(tmp_path))


def test_a_misspelt_variable_is_a_warning(tmp_path: Path) -> None:
    """Only a warning, for the environment is everybody's; a run's own variables and secrets are no settings at all."""
    env = {"AIR_POLINTERVAL": "1", "AIR_JOB_ID": "x", "AIR_SECRET_KEY": "x", "AIR_EVENTS": "1", "AIRFLOW_HOME": "/"}
    assert load({}, env, str(tmp_path)).warnings == (
        "AIR_POLINTERVAL is not a setting; did you mean AIR_POLL_INTERVAL?",
    )


def test_values_are_shown_as_they_are_written(tmp_path: Path) -> None:
    """`doctor` prints what could be given again."""
    env = {
        "AIR_POOLS": "gpu=1000000,default=0",
        "AIR_POLL_INTERVAL": "90",
        "AIR_EVENTS": "off",
        "AIR_COST_CPU_HOUR": "0.10",
        "AIR_COST_BACKENDS": "docker.cpu_hour=0.5",
        "AIR_COST_VALID_FROM": "2026-01-31",
        "AIR_DOCKER_USER": "1:2",
        "AIR_DOCKER_MEMORY": "1073741824",
        "AIR_DOCKER_ALLOW_NETWORKS": "a, b",
    }
    settings = load({}, env, str(tmp_path))
    shown = {name: value for name, value, source in effective(settings) if source != "default"}
    assert shown == {
        "pools": "gpu=1000000,default=0",
        "poll_interval": "1m30s",
        "events": "false",
        "cost.cpu_hour": "0.1",
        "cost.backends": "docker.cpu_hour=0.5",
        "cost.valid_from": "2026-01-31",
        "docker.user": "1:2",
        "docker.memory": "1Gi",
        "docker.allow_networks": "a,b",
    }


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    """Neither by `doctor` nor in a traceback."""
    settings = load({}, {"AIR_TOKEN": "hunter2"}, str(tmp_path))
    assert settings.token is not None
    assert settings.token.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + repr(effective(settings))
    assert ("token", "(set)", "AIR_TOKEN") in effective(settings)


def test_every_setting_is_documented() -> None:
    """Name, key, default and meaning, as the code has them; and nothing that does not exist."""
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `AIR_")]
    assert rows == [f"| `{a.variable}` | `{a.name}` | {a.default} | {a.description} |" for a in all_settings()]


def test_finding_the_state_directory_imports_nothing_slow(tmp_path: Path) -> None:
    """`status` must start fast: the standard library on the way to the state directory, pydantic for `explain`."""
    code = (
        "import sys; from air_executor.settings import locate_state_dir; locate_state_dir(None);"
        "import air_executor.model.times;"
        "heavy = ('asyncio', 'pydantic', 'pydantic_core', 'pydantic_settings', 'ruamel', 'typer');"
        "print([m for m in heavy if m in sys.modules]);"
        "from air_executor.settings import reader_settings; reader_settings();"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['pydantic', 'pydantic_core']\n"


def test_a_backend_has_the_common_prices_and_its_own(tmp_path: Path) -> None:
    """What a backend's table does not say is what all charge; tables in the file and text in a variable agree."""
    (tmp_path / "air-executor.toml").write_text(
        '[cost]\nrunner_hour = 0.01\ncpu_hour = 0.04\ncurrency = "EUR"\nvalid_from = 2026-01-31\n'
        "[cost.backends]\nkubernetes.cpu_hour = 0.05\n"
    )
    start = 1769817600.0
    same: list[dict[str, str]] = [{}, {"AIR_COST_BACKENDS": "kubernetes.cpu_hour=0.05"}]
    for env in same:
        cost = load({}, env, str(tmp_path)).cost
        assert cost.prices("local") == Prices("EUR", 0.01, 0.04, valid_from=start)
        assert cost.prices("kubernetes") == Prices("EUR", 0.01, 0.05, valid_from=start)
    shown = {name: value for name, value, _ in effective(load({}, {}, str(tmp_path)))}
    assert (shown["cost.backends"], shown["cost.valid_from"]) == ("kubernetes.cpu_hour=0.05", "2026-01-31")


def test_names_with_underscores_reach_their_group(tmp_path: Path) -> None:
    """Every variable sets its setting and no other, though groups and names are joined by what is in names too."""
    default = effective(load({}, {}, str(tmp_path)))
    values = (
        "77",
        "ops=failure",
        "off",
        "on",
        "xx",
        "never",
        "http",
        "1:2",
        "gpu=1000000",
        "docker.cpu_hour=7",
        "all:7/day",
        "3d",
        "64Mi",
        "2026-01-31",
        "https://air.example.com/",
        "s3://bucket/prefix",
        "10.42.0.0/16",
        "ops=admin",
    )
    for about in all_settings():
        changes = []
        for value in values:
            with contextlib.suppress(BadInputError):
                rows = effective(load({}, {about.variable: value}, str(tmp_path)))
                changes.append({new[0] for new, old in zip(rows, default, strict=True) if new[1] != old[1]})
        assert {about.name} in changes, about.variable
        assert all(change <= {about.name} for change in changes), about.variable


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Of all sources, each with its name; what is hidden by a nearer source is none."""
    file = tmp_path / "air-executor.toml"
    file.write_text('events = 7\nhttp_port = "x"\nqueues = "gpu"\n[docker]\npids = 1\npull = "no"\nuzer = 1\n')
    with pytest.raises(BadInputError) as caught:
        load({"max_runners": 0}, {"AIR_DOCKER_PIDS": "2", "AIR_HTTP_PORT": "1"}, str(tmp_path))
    assert str(caught.value).splitlines() == [
        "settings:",
        "  --max-runners: must be a whole number between 1 and 100000, got 0",
        f'  {file}: queues: the limit of gpu must be a whole number between 0 and 1000000, got ""',
        f"  {file}: events: must be true or false, got 7",
        f'  {file}: docker.pull: must be missing, always or never, got "no"',
        '  AIR_DOCKER_PIDS: must be a whole number between 16 and 4194304, got "2"',
        f"  {file}: docker.uzer is not a setting; did you mean docker.user?",
    ]


def test_a_former_name_in_a_group_works_and_is_deprecated(tmp_path: Path) -> None:
    """`pool` in `[cost]`, and its variable; a wrong value is told of the name in use."""
    file = tmp_path / "air-executor.toml"
    file.write_text("[cost]\npool = 3\n")
    settings = load({}, {}, str(tmp_path))
    assert (settings.cost.always_on_workers, settings.sources["cost.always_on_workers"]) == (3, str(file))
    assert settings.warnings == (f"{file}: cost.pool is deprecated; use cost.always_on_workers",)

    settings = load({}, {"AIR_COST_POOL": "5"}, str(tmp_path))
    assert (settings.cost.always_on_workers, settings.sources["cost.always_on_workers"]) == (5, "AIR_COST_POOL")
    assert settings.warnings[1:] == ("AIR_COST_POOL is deprecated; use AIR_COST_ALWAYS_ON_WORKERS",)

    settings = load({}, {"AIR_COST_POOL": "5", "AIR_COST_ALWAYS_ON_WORKERS": "4"}, str(tmp_path))
    assert settings.cost.always_on_workers == 4
    assert settings.warnings[1:] == ("AIR_COST_POOL is deprecated and ignored: AIR_COST_ALWAYS_ON_WORKERS is set too",)

    with pytest.raises(BadInputError, match="AIR_COST_POOL: "):
        load({}, {"AIR_COST_POOL": "none"}, str(tmp_path))


def test_former_names_work_and_are_deprecated(tmp_path: Path) -> None:
    """`AIR_QUEUES` and `queues` mean pools, with one warning; beside the new name they are ignored."""
    file = tmp_path / "air-executor.toml"
    file.write_text("[queues]\ngpu = 1\n")
    settings = load({}, {}, str(tmp_path))
    assert (settings.pools, settings.sources["pools"]) == ({"gpu": 1}, str(file))
    assert settings.warnings == (f"{file}: queues is deprecated; use pools",)

    file.write_text("[queues]\ngpu = 1\n[pools]\ncpu = 3\n")
    settings = load({}, {}, str(tmp_path))
    assert settings.pools == {"cpu": 3}
    assert settings.warnings == (f"{file}: queues is deprecated and ignored: pools is set too",)

    file.unlink()
    settings = load({}, {"AIR_QUEUES": "gpu=2"}, str(tmp_path))
    assert (settings.pools, settings.sources["pools"]) == ({"gpu": 2}, "AIR_QUEUES")
    assert settings.warnings == ("AIR_QUEUES is deprecated; use AIR_POOLS",)

    settings = load({}, {"AIR_QUEUES": "gpu=2", "AIR_POOLS": "cpu=4"}, str(tmp_path))
    assert (settings.pools, settings.sources["pools"]) == ({"cpu": 4}, "AIR_POOLS")
    assert settings.warnings == ("AIR_QUEUES is deprecated and ignored: AIR_POOLS is set too",)


def test_a_value_comes_from_one_source_as_a_whole(project: Path) -> None:
    """Groups are put together from all sources, the table of one setting is not."""
    file = project / "air-executor.toml"
    file.write_text("[queues]\ngpu = 2\n[cost]\nrunner_hour = 1\ncpu_hour = 2\n[cost.backends]\ndocker.cpu_hour = 3\n")
    flags = {"pools": {"cpu": 1}, "cost.backends": {"local": {"gpu_hour": 1}}}
    settings = load(flags, {"AIR_COST_CPU_HOUR": "5"}, str(project))
    assert settings.pools == {"cpu": 1}
    assert settings.cost.backends == {"local.gpu_hour": 1.0}
    assert (settings.cost.runner_hour, settings.cost.cpu_hour) == (1.0, 5.0)


def test_a_group_is_not_a_setting(tmp_path: Path) -> None:
    """A variable named like a group is none of ours, whatever it holds; a flag of a group's setting is one."""
    settings = load({"docker.pids": 99}, {"AIR_DOCKER": "{", "AIR_COST": '{"cpu_hour": 1}'}, str(tmp_path))
    assert (settings.docker.pids, settings.sources["docker.pids"]) == (99, "--docker-pids")
    assert settings.cost.cpu_hour == 0
    assert [warning.partition(";")[0] for warning in settings.warnings] == [
        "AIR_COST is not a setting",
        "AIR_DOCKER is not a setting",
    ]


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    """Settings that cannot be read are not taken for none."""
    (tmp_path / "air-executor.toml").mkdir()
    for read in (load, reader_settings):
        with pytest.raises(BadInputError, match=r"air-executor\.toml: cannot be read: "):
            read(None, {}, str(tmp_path))


def test_settings_made_directly_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load` looks at the environment."""
    monkeypatch.setenv("AIR_HTTP_PORT", "1")
    monkeypatch.setenv("AIR_DOCKER_PIDS", "99")
    made = Settings(backend="docker", pools={"gpu": 1})
    assert (made.backend, made.http_port, made.docker.pids, made.pools) == ("docker", 9464, 1024, {"gpu": 1})


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("", {}),
        ('max_runners = 3\nbackend = "docker"\n[pools]\ngpu = 1\n', {}),
        ("max_runners = 3\n[queues]\ngpu = 1\n", {"AIR_MAX_RUNNERS": "5", "AIR_BACKEND": ""}),
        ('state_dir = "st"\n', {"AIR_QUEUES": "gpu=1", "AIR_POOLS": "cpu=2"}),
        ("max_runners = 0\n", {}),
        ("[queues]\ngpu = -1\n", {}),
        ("", {"AIR_BACKEND": "Docker", "AIR_QUEUES": "x"}),
    ],
)
def test_a_reading_command_sees_the_same(tmp_path: Path, text: str, env: dict[str, str]) -> None:
    """What `explain` reads is what `load` gives, and wrong values are told alike."""
    (tmp_path / "air-executor.toml").write_text(text)

    def values(read: Callable[..., ReaderSettings]) -> object:
        try:
            found = read(None, env, str(tmp_path))
        except BadInputError as error:
            return str(error)
        return {name: getattr(found, name) for name in ReaderSettings.model_fields}

    assert values(reader_settings) == values(load)
