"""Which words of a command are scripts, as in `[sh, -c, SCRIPT]`, or can become an option that brings one.

No value may be put into the former, and none that begins with `-` into the latter. Two tables say what is known:
programs that take a script after an option, as shells and interpreters do, and programs whose plain words are one
(`ssh HOST SCRIPT`). They have what can start other programs; languages that only query (SQL, jq) are not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_VALUE_AS_OPTION = re.compile(r"(--?|\+)\{\{")
"""The beginning of an option whose letters are a value."""
_NONE = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class _OptionProgram:
    """Programs that take a script as the word after an option. They are recognized behind any other program."""

    names: re.Pattern[str]
    flag: re.Pattern[str]
    """The option after which the next word is a script."""
    valued: re.Pattern[str] = _NONE
    """Options whose next word is something else."""
    files: bool = True
    """A word that is no option is a script file, and what follows it belongs to that."""
    goes_on: bool = False
    """Options may follow a script that is a word."""
    rest: bool = False
    """All words after the option are one script."""
    way: str | None = None
    """What to write in the script in place of a value; None: as in a shell. `{}` is the name of its variable."""


@dataclass(frozen=True, slots=True)
class _WordProgram:
    """Programs that take their plain words as a script; only as the command itself, or behind one of `_WRAPPERS`."""

    names: re.Pattern[str]
    before: int = 0
    """Plain words in front of the script."""
    rest: bool = False
    """All words after its first one belong to it."""
    until: str | None = None
    """The word that ends it."""
    flag: re.Pattern[str] = _NONE
    """An option that brings the script; then plain words are something else."""
    file: re.Pattern[str] = _NONE
    """The same, but the script is in a file."""
    valued: re.Pattern[str] = _NONE
    """Options whose next word is something else."""
    way: str | None = None
    """As in `_OptionProgram`; without `{}`, what to do instead."""


@dataclass(slots=True)
class ScriptWords:
    """Positions in a command."""

    scripts: dict[int, str | None] = field(default_factory=dict)
    """Words that are scripts, or may be: a program that is a value may be any. Each with the `way` of its program."""
    options: list[int] = field(default_factory=list)
    """Values that the program takes for an option if they begin like one, as in `[python, VALUE]`."""


_OPTION_PROGRAMS = (
    _OptionProgram(
        re.compile(r"(?:r?ba|da|a|z|k|mk|pdk|lk|o?k|c|tc|fi|po|ya|xon)?sh|nu"),
        re.compile(r"[-+][A-Za-z]*c[A-Za-z]*|--commands?"),
        re.compile(r"[-+][A-Za-z]*[oO]|--(?:rcfile|init-file)"),
    ),
    _OptionProgram(
        re.compile(r"(?:python|pypy)[0-9.]*"),
        re.compile(r"-[A-Za-z]*c"),
        re.compile(r"-[WX]|--check-hash-based-pycs"),
        way='os.environ["{}"]',
    ),
    _OptionProgram(
        re.compile(
            r"(?:perl|ruby|node|nodejs|deno|bun|php|lua|luajit|julia|elixir|groovy|octave|guile|R|Rscript)[0-9.]*"
        ),
        re.compile(r"-[A-Za-z]*[ceErp]|--(?:eval|print)"),
        re.compile(r"-[IC]|--(?:require|import)"),
        goes_on=True,
        way="the environment variable {}",
    ),
    _OptionProgram(
        re.compile(r"pwsh|powershell"),
        re.compile(r"(?i:[-/](?:c|command|cwa|commandwithargs|e|ec|encodedcommand))"),
        rest=True,
        way="$env:{}",
    ),
    _OptionProgram(
        re.compile(r"su|runuser|script|sg|flock"),
        re.compile(r"-[A-Za-z]*c|--(?:session-)?command"),
        re.compile(r"-[A-Za-z]*[gGswE]"),
        files=False,
    ),
    _OptionProgram(re.compile(r"env"), re.compile(r"-[A-Za-z]*S|--split-string"), re.compile(r"-[uC]"), files=False),
    _OptionProgram(re.compile(r"nix-shell|sbatch"), re.compile(r"--(?:run|command|wrap)"), files=False),
)
_WORD_PROGRAMS = (
    _WordProgram(
        re.compile(r"ssh|rsh|slogin|autossh"),
        before=1,
        rest=True,
        valued=re.compile(r"-[A-Za-z0-9]*[BbcDEeFIiJLlMmOoPpQRSWw]"),
        way="send it by stdin",
    ),
    _WordProgram(re.compile(r"watch"), rest=True, valued=re.compile(r"-[A-Za-z]*[nq]|--(?:interval|equexit)")),
    _WordProgram(
        re.compile(r"parallel|sem"),
        rest=True,
        until=":::",
        valued=re.compile(r"-[A-Za-z]*[jPnNaSCILs]|--(?:jobs|joblog|results|retries|timeout|delay|load|arg-file)"),
    ),
    _WordProgram(
        re.compile(r"[gmn]?awk"),
        flag=re.compile(r"-e|--source"),
        file=re.compile(r"-[fE]|--(?:file|exec)"),
        valued=re.compile(r"-[vF]|--(?:assign|field-separator)"),
        way='ENVIRON["{}"]',
    ),
    _WordProgram(
        re.compile(r"g?sed"),
        flag=re.compile(r"-[nErsuzi]*e|--expression"),
        file=re.compile(r"-[nErsuzi]*f|--file"),
        valued=re.compile(r"-l|--line-length"),
        way="use `awk` and its ENVIRON",
    ),
)
_WRAPPERS = re.compile(
    r"env|sudo|doas|nice|ionice|chrt|taskset|nohup|setsid|stdbuf|timeout|time|flock|xargs|busybox|strace|unshare|nsenter"
    r"|chroot|runuser|sshpass|srun|docker|podman|nerdctl|kubectl|tini|dumb-init|gosu|su-exec"
)
"""Programs that start the one which a later word names."""
_STARTING = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
"""Options, of `find`, behind which a program stands."""


def script_words(command: Sequence[object]) -> ScriptWords:
    """Return which words are scripts, and which can become options."""
    words = [word if isinstance(word, str) else "-" for word in command]
    found = ScriptWords()
    _read_options(words, found)
    for program, start in _word_programs(words):
        _read_plain_words(program, words, start, found)
    return found


def _read_options(words: Sequence[str], found: ScriptWords) -> None:
    """Find what stands behind the options of `_OPTION_PROGRAMS`."""
    programs: tuple[_OptionProgram, ...] = ()
    of_image: tuple[_OptionProgram, ...] = ()
    expected = valued = scripted = False
    known = True
    for number, text in enumerate(words):
        if (expected and any(one.rest for one in programs)) or any(_attached(one.flag, text) for one in programs):
            found.scripts[number] = _way(programs)
        elif any(one.flag.fullmatch(text) for one in programs):
            expected = True
        elif programs and known and _VALUE_AS_OPTION.match(text):
            found.scripts[number] = _way(programs)
        elif not text.startswith(("-", "+")) and not valued:
            if expected:
                found.scripts[number] = _way(programs)
            elif text.startswith("{{") and known and any(one.goes_on or not scripted for one in programs):
                found.options.append(number)
            started = tuple(one for one in _OPTION_PROGRAMS if "{{" in text or one.names.fullmatch(_name(text)))
            if words[number - 1 : number] == ["--entrypoint"]:  # what follows the image are its arguments
                of_image = started
            programs = programs if expected else started or of_image or tuple(one for one in programs if not one.files)
            known = expected or "{{" not in text
            scripted = expected
            expected = False
        valued = any(one.valued.fullmatch(text) for one in programs)


def _word_programs(words: Sequence[str]) -> Iterator[tuple[_WordProgram, int]]:
    """Yield the programs whose words are scripts, each with the position of its first word."""
    wrapped = bool(words) and _WRAPPERS.fullmatch(_name(words[0])) is not None
    for number, text in enumerate(words):
        if number == 0 or wrapped or words[number - 1] in _STARTING:
            for program in _WORD_PROGRAMS:
                if program.names.fullmatch(_name(text)):
                    yield program, number + 1


def _read_plain_words(program: _WordProgram, words: Sequence[str], start: int, found: ScriptWords) -> None:
    """Find the script of one program, whose own words begin at `start`."""
    before, expected, valued, begun, elsewhere = program.before, False, False, False, False
    for number, text in enumerate(words[start:], start):
        if text == program.until:
            return
        if begun or expected or _attached(program.flag, text):
            found.scripts[number] = program.way
            elsewhere = elsewhere or not begun
            expected = False
        elif valued:
            valued = False
        elif text.startswith("-"):
            expected = program.flag.fullmatch(text) is not None
            valued = any(one.fullmatch(text) for one in (program.valued, program.file))
            elsewhere = elsewhere or any(one.match(text) for one in (program.flag, program.file))
        elif before or elsewhere:
            before = max(0, before - 1)
            if text.startswith("{{"):
                found.options.append(number)
        else:
            found.scripts[number] = program.way
            begun, elsewhere = program.rest, True


def _name(word: str) -> str:
    return word.rpartition("/")[2]


def _way(programs: Sequence[_OptionProgram]) -> str | None:
    return programs[0].way if len(programs) == 1 else None


def _attached(flag: re.Pattern[str], word: str) -> bool:
    """Tell whether the word is the option and a script in one, as in `-cprint(1)` or `--eval=1`."""
    option = word.partition("{{")[0]
    return "{{" in word and option.startswith(("-", "+")) and flag.match(option) is not None
