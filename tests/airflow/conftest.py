"""A real Airflow, in an environment of its own: `AIR_TEST_AIRFLOW` names its folder of programs.

Where none is named, these tests are skipped; in CI they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.airflow.rig import USUAL, Airflow, manager
from tests.conftest import wait_for
from tests.lanes import missing, require_service


def programs(variable: str) -> Path:
    """Return the folder of programs of an Airflow."""
    require_service("Airflow")
    named = os.environ.get(variable) or missing(
        f"{variable} names no folder with the programs of an Airflow that also has this package; see make test-airflow"
    )
    return Path(named)


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Return an Airflow with all components running, and a manager."""
    home = tmp_path_factory.mktemp("airflow")
    made = Airflow(programs("AIR_TEST_AIRFLOW"), home, home / "state")
    code, printed = made.run("db", "migrate")
    assert code == 0, printed
    with manager(made.state_dir):
        try:
            made.start(*USUAL)
            for kind in ("SchedulerJob", "TriggererJob"):
                wait_for(partial(made.jobs, kind), what=kind)
            yield made
        finally:
            made.stop_all()


@pytest.fixture(autouse=True)
def _after_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failed test print the output of Airflow's components, and run the usual ones again."""
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before and "airflow" in request.fixturenames:
        made: Airflow = request.getfixturevalue("airflow")
        print(made.output())  # noqa: T201
        made.restore()
