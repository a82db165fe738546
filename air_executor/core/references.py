"""Whether a task may refer to the result of another: only if that one has ended by the time it starts.

Asked for names in braces by `late_fields`, and for conditions by `job_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from air_executor.core.templates import split_result
from air_executor.model.problems import MOST_SHOWN, nearest

MOST_STEPS = 200_000
"""Tasks that are looked at for all references that are checked together, beyond those in `after` themselves."""


class Upstream:
    """What the tasks of a job wait for."""

    def __init__(self, tasks: Mapping[str, object], after: Callable[[str], Sequence[str]]) -> None:
        """`after`: returns the names in the `after` of one of the tasks."""
        self._tasks = tasks
        self._after = after
        self._found: dict[tuple[str, ...], frozenset[str]] = {}
        self._left = MOST_STEPS

    def of(self, needs: Iterable[str]) -> frozenset[str]:
        """Return the tasks with these ids, and all that they wait for, as far as there is time to look."""
        key = tuple(needs)
        if key not in self._found:
            self._found[key] = frozenset(self._walk(key))
        return self._found[key]

    def _walk(self, needs: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        left = [name for name in needs if name in self._tasks]
        while left:
            name = left.pop()
            if name in found:
                continue
            found.add(name)
            if self._left > 0:
                self._left -= 1
                left += [need for need in self._after(name) if need in self._tasks]
        return found


def why_unknown(
    path: str,
    known: Collection[str],
    tasks: Mapping[str, object],
    lists: Collection[str] = (),
    prefix: str = "",
    *,
    before: int = 0,
) -> str | None:
    """Return what is wrong with `TASK.key`, the name of a result, where these tasks have ended; None: nothing.

    `tasks`: all of the job, by id. `lists`: names that stand for several tasks. `prefix`: shown before a name.
    `before`: how many problems there are already; the nearest name is looked for as long as they are shown.
    """
    of, _ = split_result(path, tasks)
    if of in known:
        return None
    if of is not None:
        return f"{of} must be in `after`, or a task there must wait for it"
    if (first := path.partition(".")[0]) in lists:
        return f"{first} stands for several tasks; read their results from the file $AIR_INPUTS"
    guess = nearest(first, known or tasks) if before < MOST_SHOWN else None
    return f"did you mean {prefix}{guess}{path[len(first) :]}?" if guess else f"no task has the id {first}"
