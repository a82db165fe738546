"""The patterns do what they say: each is run as it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome, air, client, project
from tests.decisions.test_worktree import git
from tests.examples.conftest import EXAMPLES

__all__ = ["air", "client", "project"]
Air = Callable[..., Outcome]

PATTERNS = EXAMPLES / "patterns"
SAYS: dict[str, tuple[int, list[str]]] = {
    "again": (0, ["use | it is there", "wait | check 3"]),
    "artifacts": (0, ["read | some text"]),
    "budget": (1, ["first | 0.6 of 1", "second | 1.2 of 1", "tidy | tidied"]),
    "conditionals": (0, ["heads | it was heads", "report | the coin has decided"]),
    "conditions": (0, ["load | loading", "report | succeeded: alarm only_if, discover ok, load ok"]),
    "continue-on-fail": (1, ["independent | still here"]),
    "cron": (0, ["report | a report"]),
    "dag-diamond": (0, ["A | A", "B | B", "C | C", "D | D"]),
    "daily-chain": (0, ["load | loaded on top of yesterday"]),
    "exit-handlers": (1, ["alarm | something failed", "clean-up | cleaned up", "work | working"]),
    "global-parameters": (0, ["first | first in eu", "second | second in eu"]),
    "hello-world": (0, ["_1 | hello, world"]),
    "job-of-jobs": (0, ["submit | submitted two jobs"]),
    "join": (0, ["use | counted 7"]),
    "lock": (0, ["check | and nobody has since", "migrate | nobody else migrates"]),
    "loops": (0, ["say-good-bye | good bye", "say-hello | hello", "say-servus | servus"]),
    "loops-maps": (0, ["image-alpine | alpine:3.22", "image-debian | debian:13"]),
    "loops-matrix": (
        0,
        [
            "test-linux-3-12 | linux with 3.12",
            "test-linux-3-13 | linux with 3.13",
            "test-mac-3-12 | mac with 3.12",
            "test-mac-3-13 | mac with 3.13",
        ],
    ),
    "loops-param-argument": (0, ["load-eu | loading eu", "load-us | loading us", "merge | merged"]),
    "loops-param-result": (0, ["work-0 | shard 0", "work-1 | shard 1", "work-2 | shard 2"]),
    "loops-sequence": (0, ["step-1 | step 1 of 3", "step-2 | step 2 of 3", "step-3 | step 3 of 3"]),
    "memoize": (0, ["first | expensive"]),
    "map-reduce": (0, ["reduce | total 21"]),
    "output-parameter": (0, ["consume | hello, world"]),
    "parallel-steps": (0, ["join | join", "left | left", "right | right"]),
    "parallelism-limit": (0, [f"worker-{n} | done" for n in (1, 2, 3, 4)]),
    "parameters": (0, ["say | hello", "say | hello"]),
    "pools": (0, ["large | all four", "small-1 | two units", "small-2 | two units"]),
    "priorities": (0, ["later | later", "urgent | urgent"]),
    "recursion": (0, ["countdown | 3 to go", *(f"countdown-{n} | {n} to go" for n in range(3))]),
    "retries": (0, ["flaky | attempt 2"]),
    "scripts": (0, ["python | from Python", "shell | from a shell"]),
    "steps": (0, ["build | built", "fetch | fetched", "test | tested"]),
    "timeouts": (1, ["tidy | tidied"]),
    "worktree": (0, ["one | on air/worktree/one", "two | on air/worktree/two"]),
}
"""Exit code, and the output of the tasks, sorted."""


def test_each_pattern_is_here() -> None:
    """None is left out."""
    assert {path.stem for path in PATTERNS.iterdir()} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_a_pattern(air: Air, project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its exit code, and the output of its tasks."""
    monkeypatch.setenv("AIR_POOLS", "ram=4")
    if name == "worktree":
        for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
            monkeypatch.setenv(variable, "a")
        git(project, "init", "-q", "-b", "main")
        git(project, "commit", "-qm", "start", "--allow-empty")
    code, lines = SAYS[name]
    ran = air("run", "--quiet", str(PATTERNS / f"{name}.yaml"))
    assert ran.code == code, ran.err
    shown = air("logs", name).out.splitlines()
    assert sorted(shown) == lines
