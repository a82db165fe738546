"""`AirExecutor` with the backend `docker`: task instances in containers of an image that has Airflow.

No image is built for it: the tests' own Airflow is mounted into a small one, with the libraries that its Python needs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.airflow.conftest import programs
from tests.airflow.executor.test_executor import IMPORTS, jobs_of
from tests.airflow.rig import Airflow, manager
from tests.conftest import wait_for
from tests.engine import require_engine, require_image

pytestmark = pytest.mark.timeout(300)

WHERE = "import sys, air_executor; print(sys.prefix, sys.base_prefix, air_executor.__path__[0].rpartition('/')[0])"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Return an Airflow whose tasks run in containers."""
    engine = require_engine()
    image = require_image()
    python = programs("AIR_TEST_AIRFLOW") / "python"
    found = subprocess.run([python, "-P", "-c", WHERE], capture_output=True, text=True, check=True, cwd="/")
    libraries = [path for path in ("/lib", "/lib64", "/usr/lib") if os.path.isdir(path)]
    read = [*dict.fromkeys(found.stdout.split()), *libraries]
    home = tmp_path_factory.mktemp("docker")
    (home / "logs").mkdir()
    (home / "logs").chmod(0o777)  # tasks in containers are never root, which these tests may be
    made = Airflow(python.parent, home, home / "state", "air_executor.airflow.executor.AirExecutor")
    readable = [*read, str(home / "dags")]
    task = {
        "image": image,
        "network": "host",  # the API server is on this host's loopback
        "resources": {"memory": "1Gi"},
        "mounts": [
            *({"source": path, "target": path, "read_only": True} for path in readable),
            {"source": str(home / "logs"), "target": str(home / "logs")},
        ],
        "env": {
            "LOGNAME": "airflow",  # the image knows no user of that number, and Airflow wants a name
            "AIRFLOW_HOME": "/tmp/airflow",  # noqa: S108 - the container's own
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////tmp/none.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            **{
                name: made.environ()[name]
                for name in ("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL")
            },
        },
    }
    made.more = {"AIRFLOW__AIR_EXECUTOR__TASK": json.dumps(task), "AIRFLOW__AIR_EXECUTOR__PYTHON": str(python)}
    code, printed = made.run("db", "migrate")
    assert code == 0, printed
    allowed = {
        "AIR_BACKEND": "docker",
        "AIR_DOCKER_ALLOW_MOUNTS": ",".join([*readable, str(home / "logs")]),
        "AIR_DOCKER_ALLOW_NETWORKS": "host",
        "DOCKER_HOST": os.environ["DOCKER_HOST"],
    }
    with manager(made.state_dir, **allowed):
        try:
            made.start("api-server", "scheduler", "dag-processor")
            yield made
        finally:
            made.stop_all()
    engine.close()


def test_containers(airflow: Airflow) -> None:
    """Tasks run in containers, as somebody who is not root, print and hand over values; no token stays."""
    airflow.write_dag(
        "boxed",
        """
@task
def t():
    print("printed as", os.getuid())
    return os.path.exists("/.dockerenv")
t()
""",
        IMPORTS,
    )
    run = airflow.trigger("boxed")
    assert run.ended(120) == "success", run.log()
    assert run.xcom() is True
    (said,) = [line for line in run.log() if line.startswith("printed as")]
    assert said != "printed as 0"
    wait_for(lambda: all(state.ended for state in jobs_of(run)), 30, "the jobs")
    assert [state.phase for state in jobs_of(run)] == ["succeeded"]
    written = [path for path in airflow.state_dir.rglob("*") if path.is_file()]
    assert [path for path in written if b"eyJ" in path.read_bytes()] == []
    assert not list(airflow.state_dir.glob("jobs/*/workspace/workload.json"))


def test_missing_image(airflow: Airflow) -> None:
    """An image that is not there fails the task with that reason in its log, and no runner has started."""
    airflow.write_dag(
        "nowhere",
        """
@task(executor_config={"air_executor": {"image": "air-executor-test-nowhere:1"}})
def t():
    pass
t()
""",
        IMPORTS,
    )
    run = airflow.trigger("nowhere")
    assert run.ended(120) == "failed"
    assert "air-executor-test-nowhere:1" in run.log()[-1]
    (job,) = jobs_of(run)
    assert {attempt.reason for attempt in job.tasks["task"].attempts} == {"start-failed"}
