"""One idempotency key makes one job, also where several processes get the same request at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.client.job_submission import submit_once, uid_of_key
from air_executor.core.submission import parse_job
from air_executor.errors import AlreadyExistsError
from air_executor.model.state import JobState
from air_executor.store import named_runs
from air_executor.store.run_claims import RunClaims

KEYS = 20
TASKS = [{"command": "true"}]


def _same_keys(folder: str, barrier: Any, fields: dict[str, Any], results: Any) -> None:  # noqa: ANN401 - of multiprocessing
    client = Client(folder)
    found = []
    for number in range(KEYS):
        job = parse_job({**{name: value.format(number) for name, value in fields.items()}, "tasks": TASKS})
        barrier.wait(60)
        found.append(submit_once(client, [job], "anna", f"key-{number}")[0][0].id)
    results.put(found)


@pytest.mark.parametrize("fields", [{"id": "once-{}"}, {"name": "often"}, {"name": "name-{}", "concurrency": "forbid"}])
def test_processes_with_one_key_make_one_job(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Each of them is told of the same one."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_same_keys, args=(str(tmp_path), barrier, fields, results), daemon=True)
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    first, *others = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert others == [first] * 3
    assert sorted(Client(tmp_path).ids()) == sorted(set(first))
    assert len(set(first)) == KEYS
    assert [name for name in Path(tmp_path, "tmp").iterdir() if "claim" in name.name] == []


def test_others_take_the_ids_of_a_key(tmp_path: Path) -> None:
    """Runs that are submitted meanwhile get ids of their own, and each key still makes one."""
    client, barrier = Client(tmp_path), Barrier(6)
    job = parse_job({"name": "busy", "tasks": TASKS})

    def submit(worker: int) -> list[str]:
        found = []
        for number in range(KEYS):
            barrier.wait(60)
            states = submit_once(client, [job], "anna", str(number))[0] if worker % 2 else [client.submit(job)]
            found.append(states[0].uid)
        return found

    with ThreadPoolExecutor(6) as workers:
        done = list(workers.map(submit, range(6)))
    assert done[1] == done[3] == done[5]
    assert len(client.ids()) == KEYS * 4
    assert {client.status(one).uid for one in client.ids()} == {uid for found in done for uid in found}


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_claim_whose_process_has_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request with the key goes on with the same id, and with the next one where that is taken by then."""
    client = Client(tmp_path)
    client.jobs.prepare()
    job = parse_job({"name": "cut", "tasks": TASKS})
    create: Callable[..., JobState] = named_runs.NamedRuns.create_as
    for taken in (False, True):
        monkeypatch.setattr(named_runs.NamedRuns, "create_as", _stop)
        with pytest.raises(KeyboardInterrupt):
            submit_once(client, [job], "anna", str(taken))
        monkeypatch.setattr(named_runs.NamedRuns, "create_as", create)
        claim = RunClaims(client.layout, uid_of_key(job, "anna", str(taken))).next("another")
        assert claim == f"cut-{len(client.ids()) + 1}"
        others = [client.submit(job).id] if taken else []
        assert others == ([claim] if taken else [])
        ((state,), new) = submit_once(client, [job], "anna", str(taken))
        assert (state.id == claim, new) == (not taken, True)
        assert submit_once(client, [job], "anna", str(taken))[1] is False


def test_a_job_that_was_there_before_is_not_that_of_a_key(tmp_path: Path) -> None:
    """It is a conflict, as without a key."""
    client = Client(tmp_path)
    job = parse_job({"id": "mine", "tasks": TASKS})
    client.submit(job)
    with pytest.raises(AlreadyExistsError):
        submit_once(client, [job], "anna", "key")
    with pytest.raises(AlreadyExistsError):
        submit_once(client, [job, parse_job({"id": "new", "tasks": TASKS})], "anna", "key")
    assert client.ids() == ["mine"]
