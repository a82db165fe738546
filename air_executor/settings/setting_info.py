"""Description of a setting for documentation, messages and `doctor`: names, default, description, displayed value.

Derived from the declared models; knows no source.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from air_executor.model.quote import quoted
from air_executor.settings.setting_types import DefaultText, PathMark, Shown

Mark = TypeVar("Mark")
PREFIX = "AIR_"


class SettingInfo(NamedTuple):
    """One setting."""

    name: str
    """As in the file: `max_runners`, and `cost.currency` for `currency` in the table `[cost]`."""
    field: FieldInfo

    @property
    def variable(self) -> str:
        """Environment variable."""
        return variable(self.name)

    @property
    def flag(self) -> str:
        """Flag, if a command has one for it."""
        return "--" + self.name.replace("_", "-").replace(".", "-")

    @property
    def deprecated_names(self) -> list[str]:
        """Former names in the file; `variable` maps them to variables."""
        alias = self.field.validation_alias
        names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []
        group, dot, _ = self.name.rpartition(".")
        return [name for name in (f"{group}{dot}{name}" for name in names) if name != self.name]

    @property
    def description(self) -> str:
        """Noun phrase for documentation."""
        return self.field.description or ""

    @property
    def default(self) -> str:
        """Default value, in Markdown."""
        if (words := self._mark(DefaultText)) is not None:
            return words.text
        value = self.shown(self.field.default)
        return value if value == "none" else f"`{value}`"

    @property
    def is_path(self) -> bool:
        """Whether it is a path, which may be relative."""
        return self._mark(PathMark) is not None

    def value(self, settings: BaseModel) -> Any:  # noqa: ANN401 - a field of any type
        """Return the value in these settings."""
        value: Any = settings
        for part in self.name.split("."):
            value = getattr(value, part)
        return value

    def shown(self, value: object) -> str:
        """Return a value as people read it."""
        mark = self._mark(Shown)
        return "none" if value is None else str(value) if mark is None else mark.text(value)

    def _mark(self, kind: type[Mark]) -> Mark | None:
        # `Seconds | None` has the marks of `Seconds`.
        inner = [mark for part in get_args(self.field.annotation) for mark in getattr(part, "__metadata__", ())]
        return next((mark for mark in (*self.field.metadata, *inner) if isinstance(mark, kind)), None)


def variable(name: str) -> str:
    """Return the environment variable for a name in the file."""
    return PREFIX + name.replace(".", "_").upper()


def settings_of(model: type[BaseModel]) -> Iterator[SettingInfo]:
    """Yield the settings that a model declares, those of its groups included."""
    for name, field in model.model_fields.items():
        group = group_of(field)
        if group is None:
            yield SettingInfo(name, field)
        else:
            yield from (SettingInfo(f"{name}.{inner}", one) for inner, one in group.model_fields.items())


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that is a group of settings, else None."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def no_setting(name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known one; in a known table, only that is searched."""
    known = list(known)
    table = name[: name.rfind(".") + 1]
    if not any(one.startswith(table) for one in known):
        table = ""
    within = [one.removeprefix(table) for one in known if one.startswith(table)]
    near = difflib.get_close_matches(name.removeprefix(table)[:100], within, n=1)
    return f"{quoted(name)[1:-1]} is not a setting{f'; did you mean {table}{near[0]}?' if near else ''}"
