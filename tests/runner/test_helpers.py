"""The helpers of tasks write what a task would have written by hand, whichever program they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from air_executor.model.job import TASK_FIELDS
from air_executor.runner import native
from tests.docs.pages import ROOT
from tests.lanes import missing
from tests.runner.conftest import KINDS, SHELLS
from tests.runner.rig import RUNNERS, require_native

if TYPE_CHECKING:
    from pathlib import Path


class Helpers:
    """The helpers in a folder of their own, and the files that they write."""

    def __init__(self, folder: Path, shell: list[str], program: str) -> None:
        self.shell = shell
        self._folder = folder
        self.queue = folder / "queue.jsonl"
        self.result = folder / "result.json"
        for name in native.HELPERS:
            shutil.copy(program, folder / name)

    def program(self, name: str) -> list[str]:
        """Return the words that start a helper."""
        return [*self.shell, str(self._folder / name)]

    def run(self, name: str, *words: str | bytes, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        """Run a helper."""
        files = {"AIR_QUEUE": str(self.queue), "AIR_RESULT": str(self.result), "PATH": os.environ["PATH"]}
        command = [*self.program(name), *words]
        return subprocess.run(command, env={**files, **env}, input=stdin, capture_output=True, check=False, timeout=60)

    def queued(self, *words: str | bytes) -> Any:  # noqa: ANN401 - any JSON
        """Queue a task and return the line, read as JSON."""
        self.queue.unlink(missing_ok=True)
        done = self.run("air-queue", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        text = self.queue.read_bytes()
        assert text.endswith(b"\n")
        assert text.count(b"\n") == 1
        return json.loads(text)


@pytest.fixture(params=KINDS)
def helpers(request: pytest.FixtureRequest, tmp_path: Path) -> Helpers:
    """The helpers of the native runner, and those for shells."""
    shell = SHELLS.get(request.param, [])
    if shell and shutil.which(shell[0]) is None:
        missing(f"{shell[0]} is not installed")
    program = str(RUNNERS / "air-helper") if shell else require_native()
    return Helpers(tmp_path, shell, program)


def test_a_task_is_queued(helpers: Helpers) -> None:
    """Options are fields, what is behind them is the command; what may come more than once becomes a list."""
    assert helpers.queued("echo", "Hello, Paris") == {"command": ["echo", "Hello, Paris"]}
    assert helpers.queued(
        *("--id", "greet", "--after", "plan", "--after", "b", "--env", "A=b=c", "--env", "E=", "--retries", "2"),
        *("--retry-backoff", "1.5", "--timeout", "10m", "--retry_delay", "5", "--priority", "-3", "--", "--help", "x"),
    ) == {
        "id": "greet",
        "after": ["plan", "b"],
        "env": {"A": "b=c", "E": ""},
        "retries": 2,
        "retry_backoff": 1.5,
        "timeout": "10m",
        "retry_delay": "5",
        "priority": -3,
        "command": ["--help", "x"],
    }


STRUCTURED = {
    "command",
    "mounts",
    "only_if",
    "pools",
    "resources",
    "approve",
    "joins",
    "unresolved",
    "worktree",
    "memoize",
    "caches",
    "services",
    "kubernetes",
    "keep",
}
"""Fields that need JSON or no command, and two that nobody writes."""
CODES = dict.fromkeys(("retry_on", "no_retry_on", "skip_on", "again_on"), "3")
NUMBERS = {"retries": "1", "priority": "1", "retry_backoff": "2", "retry_jitter": "0.5", "again_max": "9"}
VALUES = {**NUMBERS, **CODES, "allow_failure": "true", "env": "a=b", "labels": "a=b"}


def test_every_simple_field_is_an_option(helpers: Helpers) -> None:
    """Of the fields of a task none is forgotten, and the page lists them."""
    page = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    for name in {"id", *TASK_FIELDS} - STRUCTURED:
        option = f"--{name.replace('_', '-')}"
        assert name in helpers.queued(option, VALUES.get(name, "x"), "--", "true")
        assert f"`{option}" in page


def test_a_job_is_submitted_from_a_file(helpers: Helpers, tmp_path: Path) -> None:
    """`--job` takes JSON on any number of lines; `--join` waits for the job. What is no JSON object is refused."""
    job = {"id": "child", "tasks": [{"command": 'echo "é\n"'}]}
    file = tmp_path / "job.json"
    file.write_text(f"\r\n {json.dumps(job, indent=2, ensure_ascii=False)}\n", encoding="utf-8")
    assert helpers.queued("--job", str(file)) == {"job": job}
    assert helpers.queued("--job", str(file), "--join") == {"job": job, "join": True}
    assert helpers.queued("--join", "--job", str(file)) == {"job": job, "join": True}
    assert helpers.run("air-queue", "--job", str(tmp_path / "gone")).returncode == 1
    assert helpers.run("air-queue", "--job", str(file), "--jion").returncode == 2
    assert helpers.run("air-queue", "--join", "--task", str(file)).returncode == 2
    for text in ("", "id: x\n", "[1]"):
        file.write_text(text)
        done = helpers.run("air-queue", "--job", str(file))
        assert done.returncode == 2
        assert f"{file} must be JSON" in done.stderr.decode()


def test_a_task_is_queued_from_a_file(helpers: Helpers, tmp_path: Path) -> None:
    """`--task` takes any fields, those without an option too; it takes no `--join`, and JSON alone."""
    task = {"id": "ok", "approve": 'Deploy "é"?', "pools": {"llm": 2}, "only_if": {"result": "a.n", "gt": 0}}
    file = tmp_path / "task.json"
    file.write_text(f"\n{json.dumps(task, indent=2, ensure_ascii=False)}\r\n", encoding="utf-8")
    assert helpers.queued("--task", str(file)) == task
    assert helpers.run("air-queue", "--task", str(tmp_path / "gone")).returncode == 1
    assert helpers.run("air-queue", "--task", str(file), "--join").returncode == 2
    file.write_text("command: true\n")
    assert b"must be JSON" in helpers.run("air-queue", "--task", str(file)).stderr


def test_exit_codes_are_numbers(helpers: Helpers) -> None:
    """An option for exit codes may come several times; what is no number is refused."""
    found = helpers.queued("--skip-on", "78", "--skip-on", "79", "--allow-failure", "false", "--", "true")
    assert found == {"skip_on": [78, 79], "allow_failure": False, "command": ["true"]}
    for wrong in (
        ("--skip-on", "x"),
        ("--allow-failure", "maybe"),
        ("--allow-failure", "true", "--allow-failure", "true"),
    ):
        assert helpers.run("air-queue", *wrong, "--", "true").returncode == 2


def test_another_run_is_asked_for(helpers: Helpers) -> None:
    """`air-again` writes the line that the manager reads, beside others; its delay is text that the manager checks."""
    assert helpers.run("air-queue", "true").returncode == 0
    assert helpers.run("air-again").returncode == 0
    assert helpers.run("air-again", 'ten "minutes"').returncode == 0
    lines = [json.loads(line) for line in helpers.queue.read_text().splitlines()]
    assert lines[1:] == [{"again": {}}, {"again": {"delay": 'ten "minutes"'}}]
    assert helpers.run("air-again", "1m", "2m").returncode == 2
    assert b"usage: air-again" in helpers.run("air-again", "--help").stdout
    assert b"AIR_QUEUE is not set" in helpers.run("air-again", AIR_QUEUE="").stderr


def test_progress_and_usage_are_reported(helpers: Helpers) -> None:
    """`air-progress` and `air-usage` write the lines that the manager reads while the task runs."""
    assert helpers.run("air-progress", "3").returncode == 0
    assert helpers.run("air-progress", "3", "10").returncode == 0
    assert helpers.run("air-progress", "3", "10.5", 'about "half"').returncode == 0
    assert helpers.run("air-usage", "usd=0.35", "tokens=1200").returncode == 0
    lines = [json.loads(line) for line in helpers.queue.read_text().splitlines()]
    assert lines == [
        {"progress": {"done": 3}},
        {"progress": {"done": 3, "of": 10}},
        {"progress": {"done": 3, "of": 10.5, "note": 'about "half"'}},
        {"usage": {"usd": 0.35, "tokens": 1200}},
    ]
    before = helpers.queue.read_bytes()
    for wrong in (
        ["air-progress"],
        ["air-progress", "x"],
        ["air-progress", "1", "nan"],
        ["air-progress", "1", "2", "n", "m"],
        ["air-usage"],
        ["air-usage", "usd"],
        ["air-usage", "=1"],
        ["air-usage", "usd=1e3"],
    ):
        done = helpers.run(*wrong)
        assert done.returncode == 2
        assert done.stderr
    assert helpers.queue.read_bytes() == before


def test_lines_are_appended(helpers: Helpers) -> None:
    """A task queues as many as it likes, also beside lines of its own."""
    helpers.queue.write_text('{"command": "true"}\n')
    for number in range(3):
        assert helpers.run("air-queue", "echo", str(number)).returncode == 0
    lines = [json.loads(line)["command"] for line in helpers.queue.read_text().splitlines()]
    assert lines == ["true", *(["echo", str(number)] for number in range(3))]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(words=st.lists(TEXT, min_size=1, max_size=4), value=TEXT)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_is_changed(helpers: Helpers, words: list[str], value: str) -> None:
    """Quotes, backslashes, control characters and line ends arrive as they are."""
    found = helpers.queued("--id", value, "--env", f"NAME={value}", "--", *words)
    assert found == {"id": value, "env": {"NAME": value}, "command": words}


@given(word=st.binary(max_size=20).filter(lambda data: b"\0" not in data))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_text_are_kept(helpers: Helpers, word: bytes) -> None:
    """They become what Python makes of an undecodable file name, so that the command gets the same bytes back."""
    if helpers.shell:
        pytest.skip("the script takes UTF-8 alone")
    assert os.fsencode(helpers.queued("--", b"cat", word)["command"][1]) == word


def test_the_bounds_of_utf_8(helpers: Helpers) -> None:
    """Overlong, surrogates, beyond Unicode, cut: at both sides of each bound, words are read as Python reads them."""
    if helpers.shell:
        pytest.skip("the script takes UTF-8 alone")
    firsts = bytes(
        [0x7F, 0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    )
    seconds = bytes([0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0])
    thirds = [b"", b"\x7f", b"\x80", b"\xbf", b"\xc0", b"\x80\x7f", b"\x80\x80", b"\xbf\xbf", b"\xbf\xc0"]
    words = [b"%c%c%b" % (first, second, third) for first in firsts for second in seconds for third in thirds]
    assert helpers.queued("--", *words)["command"] == list(map(os.fsdecode, words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: air-queue"),
        (["--"], "usage: air-queue"),
        (["--id"], "--id needs a value"),
        (["--id", "x"], "usage: air-queue"),
        (["--job"], "--job needs a value"),
        (["--task"], "--task needs a value"),
        (["--job", "x", "--jion"], "usage: air-queue"),
        (["--no-such", "x", "--", "true"], "--no-such is not a field"),
        (["--retryxdelay", "x", "--", "true"], "--retryxdelay is not a field"),
        (["--id", "a", "--id", "b", "--", "true"], "--id is given twice"),
        (["--retries", "two", "--", "true"], "--retries takes a number, got two"),
        (["--retries", "01", "--", "true"], "--retries takes a number, got 01"),
        (["--retries", "1.", "--", "true"], "--retries takes a number, got 1."),
        (["--retries", "", "--", "true"], "--retries takes a number, got "),
        (["--env", "x", "--", "true"], "--env takes NAME=VALUE, got x"),
    ],
)
def test_what_cannot_be_queued(helpers: Helpers, words: list[str], told: str) -> None:
    """2, the reason on stderr, and nothing is written."""
    done = helpers.run("air-queue", *words)
    assert (done.returncode, done.stdout) == (2, b"")
    text = done.stderr.decode()
    assert told in text
    assert text.startswith("usage: air-queue [") or re.fullmatch("air-queue: .*\n", text)
    assert not helpers.queue.exists()


def test_a_result_is_set(helpers: Helpers) -> None:
    """From the argument or from stdin; the last one wins."""
    for words, stdin in [(['{"cities": 2}'], b""), ([], b'{"cities": 2}')]:
        helpers.result.write_text("before")
        done = helpers.run("air-result", *words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(helpers.result.read_bytes()) == {"cities": 2}
    assert sorted(path.name for path in helpers.result.parent.iterdir()) == [*sorted(native.HELPERS), "result.json"]


def test_a_result_that_is_too_large(helpers: Helpers) -> None:
    """It is refused at once, and the one before stays."""
    helpers.result.write_text("before")
    assert helpers.run("air-result", '"' + "x" * 16382 + '"').returncode == 0
    for words, stdin in [(["x" * 16385], b""), ([], b"x" * 100_000)]:
        done = helpers.run("air-result", *words, stdin=stdin)
        assert done.returncode == 1
        assert b"write it to a file in the workspace" in done.stderr
    assert helpers.result.stat().st_size == 16384


WORDS = {"air-progress": "1", "air-usage": "usd=1"}
TOO_MANY = {"air-again": "12", "air-result": "12", "air-progress": "1234"}
"""One more than each takes; the others need some."""


@pytest.mark.parametrize("name", native.HELPERS)
def test_outside_of_a_task(helpers: Helpers, name: str) -> None:
    """What is missing is said; so is how it is called."""
    done = helpers.run(name, WORDS.get(name, "true"), AIR_QUEUE="", AIR_RESULT="")
    assert done.returncode == 1
    variable = "AIR_RESULT" if name == "air-result" else "AIR_QUEUE"
    assert done.stderr.decode() == f"{name}: {variable} is not set; call this inside a task of Air-Executor\n"
    usage = helpers.run(name, "--help").stdout.decode()
    assert usage.startswith(f"usage: {name} ")


@pytest.mark.parametrize("name", native.HELPERS)
def test_where_nothing_can_be_written(helpers: Helpers, name: str) -> None:
    """1 and a reason."""
    done = helpers.run(name, WORDS.get(name, "true"), AIR_QUEUE="/no/such/file", AIR_RESULT="/no/such/file")
    assert done.returncode == 1
    assert b"/no/such/file" in done.stderr


def limited(helpers: Helpers, size: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a helper that may make no file larger than `size` bytes, and that has no stdin."""
    begin = "import os, resource, sys; os.close(0); size = int(sys.argv[1])"
    then = "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
    program = [sys.executable, "-c", f"{begin}; {then}", str(size), *helpers.program(words[0])]
    files = {"AIR_QUEUE": str(helpers.queue), "AIR_RESULT": str(helpers.result)}
    return subprocess.run([*program, *words[1:]], env=files, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(("room", "told"), [(0, "File too large"), (1, "no space left"), (20, "no space left")])
def test_a_line_that_does_not_fit(tmp_path: Path, room: int, told: str) -> None:
    """Nothing of it is left, for half a line would fail the run."""
    helpers = Helpers(tmp_path, [], require_native())
    before = '{"command": "true"}\n'
    helpers.queue.write_text(before)
    done = limited(helpers, len(before) + room, "air-queue", "echo", "a word that is longer than its room")
    assert (done.returncode, done.stderr.decode()) == (1, f"air-queue: cannot write {helpers.queue}: {told}\n")
    assert helpers.queue.read_text() == before
    assert limited(helpers, 100, "air-queue", "true").returncode == 0
    assert helpers.queue.read_text() == f'{before}{{"command":["true"]}}\n'


@pytest.mark.parametrize("room", [0, 1])
def test_a_result_that_does_not_fit(tmp_path: Path, room: int) -> None:
    """The one before stays, and no other file."""
    helpers = Helpers(tmp_path, [], require_native())
    helpers.result.write_text("1")
    done = limited(helpers, room, "air-result", "[2]")
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"air-result: cannot write {helpers.result}: ")
    assert helpers.result.read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(native.HELPERS), "result.json"]
    assert limited(helpers, 100, "air-result", "[2]").returncode == 0
    assert helpers.result.read_text() == "[2]"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    """A folder in place of a file, and no stdin: the reason is the kernel's."""
    helpers = Helpers(tmp_path, [], require_native())
    helpers.queue.mkdir()
    for words, told in [
        (["air-queue", "true"], f"air-queue: cannot open {helpers.queue}: Is a directory"),
        (["air-queue", "--task", str(tmp_path)], f"air-queue: cannot read {tmp_path}"),
        (["air-queue", "--task", "/no/such"], "air-queue: cannot read /no/such: No such file or directory"),
        (["air-result"], "air-result: cannot read stdin: Bad file descriptor"),
    ]:
        done = limited(helpers, 100, *words)
        assert (done.returncode, done.stderr.decode()) == (1, f"{told}\n")


def test_what_is_read_in_pieces_is_whole(helpers: Helpers, tmp_path: Path) -> None:
    """Also where the last piece is one byte."""
    for size in (4096, 4097, 8193):
        text = json.dumps({"id": "x" * (size - len('{"id": ""}'))})
        assert len(text) == size
        (tmp_path / "task.json").write_text(text)
        assert helpers.queued("--task", str(tmp_path / "task.json")) == json.loads(text)
        assert helpers.run("air-result", stdin=text.encode()).returncode == 0
        assert helpers.result.read_text() == text


def test_lines_read_well(helpers: Helpers) -> None:
    """What people read in `queue.jsonl` has no escapes that it does not need."""
    assert helpers.run("air-queue", "--id", "é", "--", "echo", "Hello, Paris").returncode == 0
    assert helpers.queue.read_text("utf-8") == '{"id":"é","command":["echo","Hello, Paris"]}\n'


@pytest.mark.parametrize("name", native.HELPERS)
def test_both_programs_explain_themselves_in_the_same_words(tmp_path: Path, name: str) -> None:
    """On request, and with the same text on stderr where they are called wrongly."""
    said: list[tuple[object, ...]] = []
    for shell, program in (([], require_native()), (["sh"], str(RUNNERS / "air-helper"))):
        folder = tmp_path / str(len(said))
        folder.mkdir()
        both = Helpers(folder, shell, program)
        asked, wrong = both.run(name, "--help"), both.run(name, *TOO_MANY.get(name, ""))
        said.append((asked.returncode, asked.stdout, asked.stderr, wrong.stdout, wrong.stderr, wrong.returncode))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["air-queue", "--task"], b"air-queue: --task needs a value\n"),
        (["air-queue", "--no-such"], b"air-queue: --no-such needs a value\n"),
        (["air-queue", "--retries", "x", "--no-such", "1"], b"air-queue: --retries takes a number, got x\n"),
        (["air-queue", "--env", "x", "--id"], b"air-queue: --env takes NAME=VALUE, got x\n"),
        (["air-queue", "--allow-failure", "no"], b"air-queue: --allow-failure takes true or false, got no\n"),
        (["air-queue", "--id", "a", "--id", "b", "--help"], b"air-queue: --id is given twice\n"),
        (["air-progress", "--help", "1"], b"air-progress: DONE takes a number, got --help\n"),
        (["air-usage", "--help", "a=1"], b"air-usage: takes NAME=AMOUNT, got --help\n"),
    ],
)
def test_the_first_wrong_word_is_told(helpers: Helpers, words: list[str], told: bytes) -> None:
    """In their order, and help is what alone asks for it."""
    done = helpers.run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", told)


@pytest.mark.parametrize("option", ["--task", "--job"])
def test_a_file_that_is_not_there(helpers: Helpers, option: str) -> None:
    """One line, and no shell's beside it."""
    done = helpers.run("air-queue", option, "missing.json")
    assert (done.returncode, done.stderr) == (1, b"air-queue: cannot read missing.json: No such file or directory\n")


@pytest.mark.parametrize(("stdin", "code"), [(b"7\n\n", 0), (b"x" * 16383 + b"\n", 0), (b"x" * 16384 + b"\n", 1)])
def test_line_ends_of_a_result_count(helpers: Helpers, stdin: bytes, code: int) -> None:
    """They are bytes of it, for what it may have and for what is written."""
    assert helpers.run("air-result", stdin=stdin).returncode == code
    assert (helpers.result.read_bytes() if helpers.result.exists() else None) == (None if code else stdin)


def test_a_folder_in_place_of_the_result(helpers: Helpers) -> None:
    """Nothing is put into it, and the helper does not say that it set a result."""
    helpers.result.mkdir()
    done = helpers.run("air-result", "7")
    assert done.returncode == 1
    assert done.stderr.startswith(b"air-result: cannot write ")
    assert list(helpers.result.iterdir()) == []
