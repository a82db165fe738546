"""Settings for commands that only read state, without the import of pydantic-settings (0.1 s).

Returns the same values as `load`, which a test compares. Other settings are not checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import ValidationError

from air_executor.settings.declarations import ReaderSettings
from air_executor.settings.project import FILE, current_folder, find_project, locate_state_dir, read_file
from air_executor.settings.setting_errors import ValueOrigin, bad_settings
from air_executor.settings.setting_info import settings_of, variable


def reader_settings(
    state_dir: str | None = None, env: Mapping[str, str] | None = None, cwd: str | None = None
) -> ReaderSettings:
    """Return the settings for reading: environment > file > default; `state_dir` is a flag.

    Raises:
        BadInputError: a value is wrong, or the file cannot be read.
    """
    env = os.environ if env is None else env
    file = os.path.join(find_project(current_folder(cwd)), FILE)
    in_file = read_file(file)
    found: dict[str, object] = {}
    origins: dict[str, ValueOrigin] = {}
    for info in settings_of(ReaderSettings):
        names = (info.name, *info.deprecated_names)
        if (name := next((name for name in map(variable, names) if env.get(name)), None)) is not None:
            found[info.name], origins[info.name] = env[name], ValueOrigin(name, name)
        elif (key := next((key for key in names if key in in_file), None)) is not None:
            found[info.name], origins[info.name] = in_file[key], ValueOrigin(file, f"{file}: {key}")
    found["state_dir"] = locate_state_dir(state_dir, env, cwd)[0]
    try:
        return ReaderSettings.model_validate(found)
    except ValidationError as error:
        raise bad_settings(error, ReaderSettings, origins) from None
