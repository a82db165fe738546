"""Which words of a command are scripts, as in `[sh, -c, SCRIPT]`, or can become an option that brings one.

No value may be put into the former, and none that begins with `-` into the latter. Knows the shells and interpreters
that people use. A program of another name that takes a word as a script (`ssh`, `watch`) is not recognized.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_VALUE_AS_OPTION = re.compile(r"(--?|\+)\{\{")
"""The beginning of an option whose letters are a value."""


@dataclass(frozen=True, slots=True)
class _Program:
    """Programs that take a script as a word."""

    names: re.Pattern[str]
    flag: re.Pattern[str]
    """The option after which the next word is a script."""
    valued: re.Pattern[str]
    """Options whose next word is something else."""
    files: bool = True
    """A word that is no option is a script file, and what follows it belongs to that."""
    goes_on: bool = False
    """Options may follow a script that is a word."""


@dataclass(frozen=True, slots=True)
class ScriptWords:
    """Positions in a command."""

    scripts: list[int] = field(default_factory=list)
    """Words that are scripts, or may be: a program that is a value may be any."""
    options: list[int] = field(default_factory=list)
    """Values that a shell or interpreter takes for an option if they begin like one, as in `[python, VALUE]`."""


_PROGRAMS = (
    _Program(
        re.compile(r"(?:ba|da|a|z|k|mk|c|tc|fi)?sh"),
        re.compile(r"[-+][A-Za-z]*c[A-Za-z]*|--command"),
        re.compile(r"[-+][A-Za-z]*[oO]|--(?:rcfile|init-file)"),
    ),
    _Program(
        re.compile(r"(?:python|pypy)[0-9.]*"),
        re.compile(r"-[A-Za-z]*c"),
        re.compile(r"-[WX]|--check-hash-based-pycs"),
    ),
    _Program(
        re.compile(r"(?:perl|ruby|node|nodejs|deno|bun|php|lua|luajit|R|Rscript)[0-9.]*"),
        re.compile(r"-[A-Za-z]*[ceErp]|--(?:eval|print)"),
        re.compile(r"-[IC]|--(?:require|import)"),
        goes_on=True,
    ),
    _Program(
        re.compile(r"su|script"), re.compile(r"-[A-Za-z]*c|--command"), re.compile(r"-[A-Za-z]*[gGs]"), files=False
    ),
    _Program(re.compile(r"env"), re.compile(r"-[A-Za-z]*S|--split-string"), re.compile(r"-[uC]"), files=False),
)


def script_words(command: Sequence[object]) -> ScriptWords:
    """Return which words are scripts, and which can become options."""
    found = ScriptWords()
    programs: tuple[_Program, ...] = ()
    expected = valued = scripted = False
    known = True
    for number, word in enumerate(command):
        text = word if isinstance(word, str) else "-"
        if any(one.flag.fullmatch(text) for one in programs):
            expected = True
        elif any(_attached(one.flag, text) for one in programs) or (
            programs and known and _VALUE_AS_OPTION.match(text)
        ):
            found.scripts.append(number)
        elif not text.startswith(("-", "+")) and not valued:
            if expected:
                found.scripts.append(number)
            elif text.startswith("{{") and known and any(one.goes_on or not scripted for one in programs):
                found.options.append(number)
            name = text.rpartition("/")[2]
            started = tuple(one for one in _PROGRAMS if "{{" in text or one.names.fullmatch(name))
            programs = programs if expected else started or tuple(one for one in programs if not one.files)
            known = expected or "{{" not in text
            scripted = expected
            expected = False
        valued = any(one.valued.fullmatch(text) for one in programs)
    return found


def _attached(flag: re.Pattern[str], word: str) -> bool:
    """Tell whether a word is the option and a script in one, as in `-cprint(1)` or `--eval=1`."""
    option = word.partition("{{")[0]
    return "{{" in word and option.startswith(("-", "+")) and flag.match(option) is not None
