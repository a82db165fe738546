"""A real Airflow, in an environment of its own: `AIR_TEST_AIRFLOW` names its folder of programs.

Airflow pins too much to be installed beside the tests' tools, so it is a program to them; where none is
named, these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from air_executor.store.layout import Layout
from air_executor.store.presence import look
from tests.conftest import wait_for


@dataclass(frozen=True, slots=True)
class Airflow:
    """An Airflow with a database of its own, whose workers use one state directory with a manager."""

    programs: Path
    home: Path
    state_dir: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `airflow`, its output in one pipe, in a session of its own."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIR_", "AIRFLOW", "PYTHON"))
        }
        environ = {
            **clean,
            "PATH": f"{self.programs}:{clean['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIR_STATE_DIR": str(self.state_dir),
        }
        return subprocess.Popen(
            [self.programs / "airflow", *words],
            cwd=self.home,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run `airflow` to its end; return its exit code and what it printed."""
        process = self.start(*words)
        printed, _ = process.communicate()
        return process.returncode, printed

    def write_dag(self, dag: str, task: str) -> None:
        """Write a DAG of one task, which is an expression."""
        text = (
            "from airflow.sdk import DAG\nfrom air_executor.airflow.operators import AirExecutorOperator\n"
            f"with DAG(dag_id={dag!r}, schedule=None):\n    {task}\n"
        )
        (self.home / "dags" / f"{dag}.py").write_text(text)


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Return an Airflow with an empty database, beside a manager."""
    programs = os.environ.get("AIR_TEST_AIRFLOW")
    if not programs:
        pytest.skip("AIR_TEST_AIRFLOW names no folder with the programs of an Airflow")
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    made = Airflow(Path(str(programs)), home, home / "state")
    code, printed = made.run("db", "migrate")
    assert code == 0, printed
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    manager = subprocess.Popen(
        [sys.executable, "-m", "air_executor", "--state-dir", str(made.state_dir), "manager"],
        env={**clean, "AIR_HTTP_PORT": "0"},
        cwd=home,
    )
    try:
        wait_for(lambda: look(Layout(made.state_dir)).running, 30, "the manager")
        yield made
    finally:
        manager.terminate()
        manager.wait()
