"""A real Airflow, in an environment of its own: `AIR_TEST_AIRFLOW` names its folder of programs.

Where none is named, these tests are skipped; in CI they fail.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.airflow.rig import USUAL, Airflow, manager
from tests.backends.rig import open_to_tasks
from tests.conftest import MEMORY, wait_for
from tests.lanes import missing, require_service


def programs(variable: str) -> Path:
    """Return the folder of programs of an Airflow."""
    require_service("Airflow")
    named = os.environ.get(variable) or missing(
        f"{variable} names no folder with the programs of an Airflow that also has this package; see make test-airflow"
    )
    return Path(named)


ALIAS = "AirExecutor"
EXECUTORS = f"LocalExecutor,{ALIAS}:air_executor.airflow.executor.AirExecutor"
"""A task is on the first unless it asks for the other."""
SOON = {
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
}
"""What a scheduler has left is noticed within seconds, once its last heartbeat is 30 s old, as is usual.

With a few seconds instead, a busy machine's only scheduler takes itself for dead, and starts its tasks once more.
"""


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Return an Airflow with all components running, and a manager: the only one, for each takes a minute to start.

    Its database is in memory if possible: each component waits for the others' commits, which a busy disk makes long.
    """
    with tempfile.TemporaryDirectory(prefix="air-airflow-", dir=MEMORY) as folder:
        yield from running_airflow(tmp_path_factory, Path(folder))


def running_airflow(tmp_path_factory: pytest.TempPathFactory, database_dir: Path) -> Iterator[Airflow]:
    """Return the Airflow of the tests, with its database in this folder, and stop it at the end."""
    home = tmp_path_factory.mktemp("x")  # short: the sockets of fork servers are below it
    open_to_tasks(home)  # tasks in containers are never root, which these tests may be
    (home / "logs").mkdir()
    (home / "logs").chmod(0o777)
    more = {**SOON, "TMPDIR": str(home), "AIRFLOW__AIR_EXECUTOR__STATE_DIR": str(home / "state")}
    made = Airflow(programs("AIR_TEST_AIRFLOW"), home, home / "state", EXECUTORS, more, database_dir=database_dir)
    code, printed = made.run("db", "migrate")
    assert code == 0, printed
    inherited = {name: value for name, value in made.environ().items() if not name.startswith("AIR_")}
    with manager(made.state_dir, **inherited):
        try:
            made.start(*USUAL)
            for kind in ("SchedulerJob", "TriggererJob"):
                wait_for(partial(made.jobs, kind), what=kind)
            yield made
        finally:
            made.stop_all()
            for server in made.fork_servers():
                server.kill()


@pytest.fixture(autouse=True)
def _after_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failed test print the output of Airflow's components, and run the usual ones again."""
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before and "airflow" in request.fixturenames:
        made: Airflow = request.getfixturevalue("airflow")
        print(made.output())  # noqa: T201
        made.restore()
