"""Effective settings and the source of each value: flag > environment > `air-executor.toml` > default.

pydantic-settings merges the sources that are defined here. Imported by commands that start runners, and by `doctor`;
commands that only read state use `reader`. Nothing else reads the environment for settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from air_executor.errors import BadInputError
from air_executor.model.names import RUN_ENVIRONMENT
from air_executor.settings import http_types
from air_executor.settings import setting_types as t
from air_executor.settings.declarations import (
    CostSettings,
    DockerSettings,
    KubernetesSettings,
    LocalSettings,
    ProxySettings,
    ReaderSettings,
    TransportSettings,
)
from air_executor.settings.project import (
    DEFAULT,
    DIRECTORY,
    FILE,
    anchored,
    check_folder,
    current_folder,
    find_project,
    read_file,
)
from air_executor.settings.setting_errors import ValueOrigin, bad_settings
from air_executor.settings.setting_info import PREFIX, SettingInfo, no_setting, settings_of, variable

_OF_CLIENTS = ("AIR_SERVER",)
"""Variables of commands that use a server: no settings of a project, whose file could send tokens elsewhere."""
_NOT_SETTINGS = ("AIR_SECRET_", "AIR_NOTIFY_")
"""How variables begin that hold secrets: of tasks, and the URLs of targets."""


class Settings(ReaderSettings, BaseSettings):
    """The effective settings. A group's name precedes its fields: `AIR_COST_CURRENCY`, `[cost] currency`.

    The constructor takes values and defaults; only `load` reads the environment and the file.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True,
        enable_decoding=False,  # text like `gpu=2` is not JSON; the types parse it
        env_nested_delimiter="_",
        env_nested_max_split=1,  # AIR_DOCKER_PULL_DEADLINE is docker.pull_deadline
        env_prefix=PREFIX,
        env_prefix_target="all",  # aliases have it too
        validate_default=False,
    )

    poll_interval: t.Seconds = Field(1.0, description="Polling interval of the state directory.")
    events: t.Switch = Field(default=True, description="Wake-ups by file system and platform events between polls.")
    platform_retries: Annotated[int, *t.whole(0, 100)] = Field(
        3, description="Maximum number of repeated runs of a task that the platform lost or could not start."
    )
    keep_runs: Annotated[Annotated[int, *t.whole(1, 100_000_000)] | None, t.DefaultText("all")] = Field(
        None, description="Maximum number of run directories (logs and files of runs) to keep per job."
    )
    keep_runs_for: Annotated[t.Seconds | None, t.DefaultText("ever")] = Field(
        None, description="Maximum age of run directories to keep, since the end of the run."
    )
    keep_runners: Annotated[int, *t.whole(0, 1000)] = Field(
        10, description="Maximum number of failed runners that stay because their task has `keep`; 0: none does."
    )
    keep_runners_for: t.Seconds = Field(
        86_400.0, description="Maximum time for which a failed runner stays, whatever the `keep` of its task."
    )
    name_prefix: t.Prefix = Field("air", description="Prefix of runner names on the platform, at most 12 characters.")
    runner_image: Annotated[t.Text | None, t.DefaultText("the backend's own")] = Field(
        None, description="Default image for tasks in containers."
    )
    secrets_dir: t.FilePath | None = Field(
        None, description="Directory of secrets: one file per secret, with its name."
    )
    jobs_dir: t.FilePath | None = Field(
        None, description="Directory of job files whose schedules the manager applies when the files change."
    )
    notify: Annotated[t.NotifyRules, t.DefaultText("nobody")] = Field(
        default_factory=dict,
        description="Notifications of jobs without `notify`, like `ops=failure+late,boss=success`.",
    )
    http_host: t.Text = Field("127.0.0.1", description="Listen address for metrics and the web page.")
    http_port: Annotated[int, *t.whole(0, 65_535)] = Field(
        9464, description="Listen port for metrics and the web page; 0 disables both."
    )
    token: t.Token | None = Field(
        None,
        description="Token of a viewer for metrics, page and API; addresses other than loopback need a token.",
    )
    tokens_file: Annotated[t.FilePath | None, t.DefaultText("`tokens.json` in the state directory")] = Field(
        None, description="File of tokens with roles for the web page and the API, as `air-executor token` writes it."
    )
    admin_token_file: t.FilePath | None = Field(
        None, description="File with the token of an admin, for example of a mounted Secret; followed when it changes."
    )
    first_token: t.Switch = Field(
        default=False,
        description="Creation of an admin's token where there is no token yet; `air-executor token show` prints it.",
    )
    public_url: Annotated[http_types.PublicUrl | None, t.DefaultText("listen address")] = Field(
        None, description="Address of the web page for browsers, for messages and notifications."
    )
    workspace_store: Annotated[http_types.StoreUrl | None, t.DefaultText("the state directory")] = Field(
        None,
        description="Object store for the workspaces of jobs, like `s3://bucket/prefix`, with a transport over HTTP.",
    )
    upload_limit: t.Bytes = Field(
        16 << 30, description="Maximum size of a file that `workspace push` sends to the server."
    )
    mcp: t.Switch = Field(default=False, description="Tools for agents at `/mcp` of the server (extra `mcp`).")
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    cost: CostSettings = Field(default_factory=CostSettings)
    local: LocalSettings = Field(default_factory=LocalSettings)
    docker: DockerSettings = Field(default_factory=DockerSettings)
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def sources(self) -> Mapping[str, str]:
        """Source of each value, by name (`cost.currency`): a flag, a variable, the file's path or `default`."""
        return self._sources

    @property
    def warnings(self) -> tuple[str, ...]:
        """Deprecated names in use, and unknown variables that look like settings."""
        return self._warnings

    @property
    def transport(self) -> TransportSettings | None:
        """Settings of runs whose files come and go over HTTP; None: there are none."""
        groups: dict[str, TransportSettings] = {"docker": self.docker, "kubernetes": self.kubernetes}
        found = groups.get(self.backend)
        return found if found is not None and found.carries_runs else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - as the library calls it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use arguments only: `load` passes its own sources."""
        return (init_settings,)


class FlagSource(InitSettingsSource):
    """Flags of a command, by name of the setting; None is a flag that was not given."""

    def __init__(self, flags: Mapping[str, object], folder: str) -> None:
        self._folder = folder
        given = {name: value for name, value in flags.items() if value is not None}
        self.origins = {info.name: ValueOrigin(info.flag, info.flag) for info in all_settings() if info.name in given}
        tables: dict[str, Any] = {}
        for name, value in given.items():
            group, _, inner = name.rpartition(".")
            # The library merges dicts of several sources, which is right for groups but not for a single value.
            whole = MappingProxyType(value) if isinstance(value, dict) else value
            (tables.setdefault(group, {}) if group else tables)[inner] = whole
        super().__init__(Settings, tables)

    def __call__(self) -> dict[str, Any]:
        """Return the values for merging."""
        return _normalized(super().__call__(), self._folder)


class EnvironmentSource(EnvSettingsSource):
    """Variables of settings; an empty one counts as not set. Other variables are ignored."""

    def __init__(self, env: Mapping[str, str], folder: str) -> None:
        self._folder = folder
        self.origins: dict[str, ValueOrigin] = {}
        self.warnings: list[str] = []
        found: dict[str, str | None] = {}
        for info in all_settings():
            names = [name for name in map(variable, (info.name, *info.deprecated_names)) if env.get(name)]
            found |= {name.lower(): env[name] for name in names}
            if names:
                self.origins[info.name] = ValueOrigin(names[0], names[0])
                self.warnings += _deprecations(names, info.variable)
        super().__init__(Settings, case_sensitive=False)
        self.env_vars = found

    def __call__(self) -> dict[str, Any]:
        """Return the values for merging."""
        return _normalized(super().__call__(), self._folder)


class FileSource(TomlConfigSettingsSource):
    """The settings file, if there is one.

    Raises:
        BadInputError: it cannot be read.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        if os.path.exists(file) and not os.path.isfile(file):  # the library would ignore it
            msg = f"{file}: cannot be read: it is not a file"
            raise BadInputError(msg)
        super().__init__(Settings, toml_file=file)
        self.origins: dict[str, ValueOrigin] = {}
        self.warnings: list[str] = []
        given = _flat(self.toml_data)
        for info in all_settings():
            keys = [key for key in (info.name, *info.deprecated_names) if key in given]
            if keys:
                self.origins[info.name] = ValueOrigin(file, f"{file}: {keys[0]}")
                self.warnings += [f"{file}: {line}" for line in _deprecations(keys, info.name)]
        # Unknown keys, for error messages.
        self.origins |= {name: ValueOrigin(file, file) for name in given if name not in self.origins}

    def _read_file(self, file_path: object) -> dict[str, Any]:
        return read_file(str(file_path))

    def __call__(self) -> dict[str, Any]:
        """Return the values for merging."""
        return _normalized(super().__call__(), os.path.dirname(self.file))


@cache
def all_settings() -> tuple[SettingInfo, ...]:
    """Return every setting there is."""
    return tuple(settings_of(Settings))


def load(
    flags: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> Settings:
    """Return the effective settings. `flags` go by name (`max_runners`, `cost.currency`); None is a flag not given.

    A relative path starts at the current folder; in the file, at the file's.

    Raises:
        BadInputError: a value is wrong, or the file has an unknown key; one line per problem.
        NotFoundError: the current folder, where the state directory would be, was deleted.
    """
    env = os.environ if env is None else env
    here = current_folder(cwd)
    check_folder(here, (flags or {}).get("state_dir") or env.get(variable("state_dir")))
    project = find_project(here)
    environment, file = EnvironmentSource(env, here), FileSource(os.path.join(project, FILE))
    sources = (FlagSource(flags or {}, here), environment, file)
    # A group that is given as a table is validated with the whole; as a default it would need a validator of its own.
    groups: dict[str, dict[str, Any]] = {"cost": {}, "local": {}, "docker": {}, "kubernetes": {}}
    defaults = InitSettingsSource(Settings, {"state_dir": os.path.join(project, DIRECTORY), **groups})
    origins: dict[str, ValueOrigin] = {}
    for source in reversed(sources):
        origins |= source.origins
    try:
        settings = Settings(_build_sources=((*sources, defaults), {}))
    except ValidationError as error:
        raise bad_settings(error, Settings, origins) from None
    settings._sources = {  # noqa: SLF001 - a class of this module
        info.name: origins[info.name].source if info.name in origins else DEFAULT for info in all_settings()
    }
    settings._warnings = (*file.warnings, *environment.warnings, *_unknown_variables(env))  # noqa: SLF001 - as above
    return settings


def effective(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, displayed value and source of every setting; of a secret only that it is set."""
    return [
        (info.name, info.shown(info.value(settings)), settings.sources.get(info.name, DEFAULT))
        for info in all_settings()
    ]


def _unknown_variables(env: Mapping[str, str]) -> list[str]:
    """Return a warning for each unknown variable that looks like a setting."""
    known = [variable(name) for info in all_settings() for name in (info.name, *info.deprecated_names)]
    return [
        no_setting(name, known)
        for name in sorted(env)
        if name.startswith(PREFIX)
        and name not in {*known, *RUN_ENVIRONMENT, *_OF_CLIENTS}
        and not name.startswith(_NOT_SETTINGS)
    ]


def _normalized(values: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the values of a source by their present names, with absolute paths; relative ones start at `folder`."""
    for info in all_settings():
        group, _, key = info.name.rpartition(".")
        table = values.get(group) if group else values
        if group and isinstance(table, dict):  # the library does this for names outside of groups
            for former in [name.rpartition(".")[2] for name in info.deprecated_names]:
                if former in table:
                    table.setdefault(key, table.pop(former))
        if info.is_path and isinstance(table, dict) and key in table:
            table[key] = anchored(table[key], folder)
    return values


def _flat(tables: Mapping[str, Any]) -> set[str]:
    """Return the names of all settings in a file: `cost.currency` for `currency` in the table of a group."""
    groups = {info.name.partition(".")[0] for info in all_settings() if "." in info.name}
    return {
        full
        for name, value in tables.items()
        for full in ([f"{name}.{key}" for key in value] if name in groups and isinstance(value, dict) else [name])
    }


def _deprecations(used: Sequence[str], current: str) -> list[str]:
    """Return a warning for each deprecated name among the names in use of one setting; the first one takes effect."""
    return [
        f"{name} is deprecated; use {current}"
        if name == used[0]
        else f"{name} is deprecated and ignored: {current} is set too"
        for name in used
        if name != current
    ]
