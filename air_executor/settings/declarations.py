"""The settings there are, and the effective value of each: flag > environment > `air-executor.toml` > default.

A setting is declared once, as a field; its variable, its key in the file and its line in the documentation follow from
that. What the parts do with the values is not known here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from air_executor.core.price import Prices
from air_executor.errors import BadInputError
from air_executor.model.names import RUN_ENVIRONMENT
from air_executor.model.quote import quoted
from air_executor.model.sizes import format_memory
from air_executor.model.times import format_duration, from_text
from air_executor.settings import values as v
from air_executor.settings.project import DEFAULT, DIRECTORY, FILE, find_project, read_file

_SECRETS = "AIR_SECRET_"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _setting(
    parse: Callable[[object], Any],
    about: str,
    default: object = None,
    *,
    make: Callable[[], object] | None = None,
    shown: str | None = None,
    hidden: bool = False,
) -> Any:  # noqa: ANN401 - a field of any type
    """Declare one setting: `shown` is its default in words, `hidden` keeps its value out of sight."""
    meta = {"parse": parse, "about": about, "shown": shown or _as_text(default), "hidden": hidden}
    if make is not None:
        return field(default_factory=make, metadata=meta)
    return field(default=default, metadata=meta, repr=not hidden)


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_as_text(number)}" for name, number in value.items()) or "none"
    if isinstance(value, tuple):
        return (":" if value and isinstance(value[0], int) else ",").join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class CostSettings:
    """What runners cost. A run is charged its runner-seconds at the prices in force when it is booked."""

    runner_hour: float = _setting(v.to_price, "Price of one runner for one hour, whatever its task asks for.", 0.0)
    cpu_hour: float = _setting(v.to_price, "Price of one CPU for one hour, for each that the task asks for.", 0.0)
    memory_hour: float = _setting(v.to_price, "Price of one GiB for one hour, for each that the task asks for.", 0.0)
    gpu_hour: float = _setting(v.to_price, "Price of one GPU for one hour, for each that the task asks for.", 0.0)
    currency: str = _setting(v.to_currency, "Currency of the prices; kept with each run.", "USD")
    valid_from: str | None = _setting(
        v.to_day, "Day (UTC) from which the prices hold; a run spawned before has no price.", shown="always"
    )
    pool: int | None = _setting(
        v.to_whole(1, 1_000_000), "Size of the always-on pool that metrics compare with.", shown="`AIR_MAX_RUNNERS`"
    )
    backends: Mapping[str, float] = _setting(
        v.to_backend_prices,
        "Prices that differ by backend, like `docker.runner_hour=0.01,kubernetes.cpu_hour=0.05`.",
        make=lambda: MappingProxyType({}),
        shown="none",
    )

    def prices(self, backend: str) -> Prices:
        """Return the prices of one backend."""
        hours = {name: self.backends.get(f"{backend}.{name}", getattr(self, name)) for name in v.PRICES}
        start = None if self.valid_from is None else from_text(f"{self.valid_from}T00:00:00Z")
        return Prices(self.currency, **hours, valid_from=start)


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How containers are made. The engine itself is the one that `DOCKER_HOST` names, as for every Docker program."""

    pull: str = _setting(
        v.to_choice("missing", "always", "never"),
        "When to pull a task's image: `missing`, `always` or `never`.",
        "missing",
    )
    pull_deadline: float = _setting(v.to_interval, "How long a pull may take.", 600.0, shown="10m")
    timeout: float = _setting(v.to_interval, "How long the engine may take to answer one request.", 30.0, shown="30s")
    user: tuple[int, int] = _setting(
        v.to_user, "Who tasks are where the state directory is root's: user and group.", (65532, 65532)
    )
    network: str = _setting(v.to_id, "Network of tasks that name none; made if missing.", "air-executor")
    allow_networks: tuple[str, ...] = _setting(v.to_names, "Other networks that tasks may name.", ())
    allow_mounts: tuple[str, ...] = _setting(
        v.to_names,
        "Folders outside the project that tasks may mount: absolute paths as the engine's host has them.",
        (),
    )
    memory: int = _setting(v.to_memory, "Memory of a task that says nothing of it.", 2 << 30, shown="2Gi")
    cpus: float | None = _setting(v.to_cpus, "CPUs of a task that says nothing of them.", shown="all there are")
    pids: int = _setting(v.to_whole(16, 4_194_304), "Most processes and threads of one task.", 1024)
    tmp_size: int = _setting(v.to_memory, "Size of a task's `/tmp`, which is memory.", 256 << 20, shown="256Mi")
    read_only: bool = _setting(v.to_switch, "Keep tasks from writing into their image's folders.", default=True)


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """How Jobs are made. The cluster is the one of the manager's own pod, or else that of `KUBECONFIG`."""

    claim: str | None = _setting(v.to_object, "The PersistentVolumeClaim on which the state directory lies.")
    sub_path: str = _setting(v.to_inner_path, "Where in the claim the state directory lies.", "", shown="at its root")
    namespace: str | None = _setting(
        v.to_object, "Namespace of the runners.", shown="the manager's own, or that of the context"
    )
    lease: bool = _setting(
        v.to_switch,
        "Prove by a Lease, not by a lock file, that one manager is at work; others stand by.",
        default=False,
    )
    owner: str | None = _setting(
        v.to_object, "Deployment that the Jobs belong to: when it is deleted, they are too.", shown="none"
    )
    service_account: str | None = _setting(v.to_object, "Service account of the pods; they get no token of it.")
    user: tuple[int, int] = _setting(
        v.to_user, "Who tasks are where the state directory is root's: user and group.", (65532, 65532)
    )
    secret: str | None = _setting(v.to_object, "Secret whose keys are the secrets that tasks may name.")
    pod_template: str | None = _setting(
        v.to_path, "YAML file with `metadata` and `spec` that are merged into every pod, as Kubernetes merges patches."
    )
    allow_claims: tuple[str, ...] = _setting(v.to_names, "Other volume claims that tasks may mount.", ())
    allow_networks: tuple[str, ...] = _setting(
        v.to_names, "Networks that tasks may name; NetworkPolicies select them by label.", ()
    )
    pull: str = _setting(
        v.to_choice("missing", "always", "never"),
        "When a node pulls a task's image: `missing`, `always` or `never`.",
        "missing",
    )
    schedule_deadline: float = _setting(
        v.to_interval, "How long a pod may wait for a node that takes it.", 600.0, shown="10m"
    )
    pull_deadline: float = _setting(
        v.to_interval, "How long a pod's image and volumes may take to be there.", 600.0, shown="10m"
    )
    start_deadline: float = _setting(
        v.to_interval, "How long a pod may take to start after its node had an error with it.", 120.0, shown="2m"
    )
    timeout: float = _setting(
        v.to_interval, "How long the API server may take to answer one request.", 30.0, shown="30s"
    )
    rate: float = _setting(v.to_rate, "Most requests per second to the API server.", 50.0)
    visibility: float = _setting(
        v.to_interval, "How long a file of a runner may take to be seen by the manager.", 5.0, shown="5s"
    )
    memory: int = _setting(v.to_memory, "Most memory of a task that says nothing of it.", 2 << 30, shown="2Gi")
    memory_request: int = _setting(
        v.to_memory, "Memory reserved for a task that says nothing of it.", 256 << 20, shown="256Mi"
    )
    cpus: float | None = _setting(v.to_cpus, "Most CPUs of a task that says nothing of them.", shown="no limit")
    cpu_request: float = _setting(v.to_cpus, "CPUs reserved for a task that says nothing of them.", 0.1)
    gpu_resource: str = _setting(v.to_text, "What the cluster calls a GPU.", "nvidia.com/gpu")
    tmp_size: int = _setting(v.to_memory, "Size of a task's `/tmp`, which is memory.", 256 << 20, shown="256Mi")
    read_only: bool = _setting(v.to_switch, "Keep tasks from writing into their image's folders.", default=True)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. A group's fields go by its name: `AIR_COST_CURRENCY`, `[cost] currency`."""

    state_dir: str = _setting(v.to_path, "The state directory.", "", shown="`.air-executor` in the project folder")
    backend: str = _setting(v.to_id, "Where runners run.", "local")
    max_runners: int = _setting(
        v.to_whole(1, 100_000), "Most runners at once, of all jobs together.", make=_cores, shown="number of cores"
    )
    queues: Mapping[str, int] = _setting(
        v.to_limits,
        "Most runners at once by queue, like `gpu=2,default=8`; a queue not named here has no limit of its own.",
        make=lambda: MappingProxyType({}),
        shown="no limits",
    )
    poll_interval: float = _setting(
        v.to_interval, "How often to look at the volume when no event comes.", 1.0, shown="1s"
    )
    events: bool = _setting(v.to_switch, "Let events wake the manager early; without them it only polls.", default=True)
    platform_retries: int = _setting(
        v.to_whole(0, 100), "How often a task is run again after the platform lost it or could not start it.", 3
    )
    name_prefix: str = _setting(v.to_prefix, "Start of runners' names on the platform, at most 12 characters.", "air")
    runner_image: str | None = _setting(
        v.to_text, "Image for tasks that name none, in containers.", shown="the backend's own"
    )
    secrets_dir: str | None = _setting(v.to_path, "Folder with one file per secret, named like it.")
    http_host: str = _setting(v.to_text, "Address on which the manager serves its metrics and page.", "127.0.0.1")
    http_port: int = _setting(v.to_whole(0, 65_535), "Port for the same; 0 serves nothing.", 9464)
    token: str | None = _setting(
        v.to_secret,
        "Token without which nothing but probes is served; on other addresses than loopback the page needs it.",
        hidden=True,
    )
    cost: CostSettings = field(default_factory=CostSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)

    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value came from, by name (`cost.currency`): a flag, a variable, a file's path or `default`."""
    warnings: tuple[str, ...] = ()
    """Variables that look like settings and are none."""


_GROUPS: Mapping[str, type[Any]] = MappingProxyType(
    {"cost": CostSettings, "docker": DockerSettings, "kubernetes": KubernetesSettings}
)


class SettingInfo(NamedTuple):
    """One setting, for documentation and `doctor`."""

    name: str
    """As in the file: `max_runners`, and `cost.currency` for `currency` in the table `[cost]`."""
    variable: str
    default: str
    text: str
    hidden: bool

    @property
    def flag(self) -> str:
        """The flag that sets it, where a command has one."""
        return "--" + self.name.replace("_", "-").replace(".", "-")


def all_settings() -> list[SettingInfo]:
    """Return every setting there is."""
    return [
        SettingInfo(name, variable(name), item.metadata["shown"], item.metadata["about"], item.metadata["hidden"])
        for name, item in _declared()
    ]


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return "AIR_" + name.replace(".", "_").upper()


def _declared() -> Iterator[tuple[str, Field[Any]]]:
    for item in fields(Settings):
        if "parse" in item.metadata:
            yield item.name, item
        elif item.name in _GROUPS:
            for inner in fields(_GROUPS[item.name]):
                yield f"{item.name}.{inner.name}", inner


def load(
    flags: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> Settings:
    """Return the effective settings. `flags` go by name (`max_runners`, `cost.currency`); None is a flag not given.

    Empty variables count as not set. A relative path is meant from the current folder; in the file, from the file's.

    Raises:
        BadInputError: a value is wrong, or the file has a key that is no setting; one line per problem.
    """
    env = os.environ if env is None else env
    flags = flags or {}
    here = os.path.abspath(cwd or os.getcwd())
    project = find_project(here)
    file = os.path.join(project, FILE)
    in_file = _flatten(read_file(file))
    names = [about.name for about in all_settings()]
    problems = [f"{file}: {line}" for line in _unknown(in_file, names)] + _unknown(flags, names)
    found: dict[str, Any] = {"state_dir": os.path.join(project, DIRECTORY)}
    sources: dict[str, str] = {}
    for about, (name, item) in zip(all_settings(), _declared(), strict=True):
        value, source, base, where = _first(
            (flags.get(name), about.flag, here, about.flag),
            (env.get(about.variable) or None, about.variable, here, about.variable),
            (in_file.get(name), file, project, f"{file}: {name}"),
        )
        sources[name] = source
        if value is None:
            continue
        parse = item.metadata["parse"]
        try:
            parsed = parse(value)
        except BadInputError as error:
            problems.append(f"{where}: {error}")
            continue
        found[name] = os.path.normpath(os.path.join(base, parsed)) if parse is v.to_path else parsed
    if problems:
        raise BadInputError("\n  ".join(["settings:", *problems]) if len(problems) > 1 else problems[0])
    groups = {
        group: made(**{name.partition(".")[2]: value for name, value in found.items() if name.startswith(f"{group}.")})
        for group, made in _GROUPS.items()
    }
    own = {name: value for name, value in found.items() if "." not in name}
    return Settings(**own, **groups, sources=MappingProxyType(sources), warnings=tuple(unknown_variables(env)))


_Candidate = tuple[object, str, str, str]


def _first(*candidates: _Candidate) -> _Candidate:
    return next((c for c in candidates if c[0] is not None), (None, DEFAULT, "", ""))


def effective(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and source of every setting as people read them; of a hidden one only that it is set."""
    rows = []
    for name, item in _declared():
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        if item.metadata["parse"] is v.to_interval:
            value = format_duration(value)
        elif item.metadata["parse"] is v.to_memory:
            value = format_memory(value)
        shown = "(set)" if item.metadata["hidden"] and value is not None else _as_text(value)
        rows.append((name, shown, settings.sources.get(name, DEFAULT)))
    return rows


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that looks like a setting and is none."""
    known = [about.variable for about in all_settings()]
    return _unknown(
        [
            name
            for name in sorted(env)
            if name.startswith("AIR_") and name not in RUN_ENVIRONMENT and not name.startswith(_SECRETS)
        ],
        known,
    )


def _flatten(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Put a group's name before the keys of its table; a table that is a setting's value stays one."""
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        if name in _GROUPS and isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return flat


def _unknown(names: Iterable[str], known: list[str]) -> list[str]:
    lines = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name[:100], known, n=1)
            lines.append(f"{quoted(name)[1:-1]} is not a setting{f'; did you mean {near[0]}?' if near else ''}")
    return lines
