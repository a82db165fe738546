"""`AirExecutor` where runners are containers and Kubernetes Jobs: task instances in an image that has Airflow.

No image is built for it: the tests' own Airflow is mounted into a small one, with the libraries that its Python needs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.container.inside import WORKSPACE
from air_executor.backends.kubernetes.object_status import CONTAINER
from tests import cluster, engine
from tests.airflow.conftest import SOON
from tests.airflow.executor.test_executor import IMPORTS, jobs_of
from tests.airflow.rig import Airflow, manager
from tests.conftest import wait_for

pytestmark = pytest.mark.timeout(900)

WHERE = "import sys, air_executor; print(sys.prefix, sys.base_prefix, air_executor.__path__[0].rpartition('/')[0])"
LIBRARIES = ("/lib", "/lib64", "/usr/lib")


def on_docker(state_dir: Path, readable: list[str], task: dict[str, Any]) -> dict[str, str]:
    """Return the settings of a manager of containers, and complete the fields of its tasks."""
    engine.require_engine().close()
    logs = str(state_dir.parent / "logs")
    task["image"] = engine.require_image()
    task["network"] = "host"  # the API server is on this host's loopback
    task["mounts"] = [
        *({"source": path, "target": path, "read_only": True} for path in readable),
        {"source": logs, "target": logs},
    ]
    return {
        "AIR_BACKEND": "docker",
        "AIR_DOCKER_ALLOW_MOUNTS": ",".join([*readable, logs]),
        "AIR_DOCKER_ALLOW_NETWORKS": "host",
        "DOCKER_HOST": f"unix://{engine.socket_path()}",
    }


def on_kubernetes(state_dir: Path, readable: list[str], task: dict[str, Any]) -> dict[str, str]:
    """Return the settings of a manager of Jobs, and complete the fields of its tasks; the node is this host."""
    home = state_dir.parent
    namespace = cluster.shared_namespace(str(home.parent))
    paths = {f"host-{number}": path for number, path in enumerate([*readable, str(home / "logs")])}
    template = {
        "spec": {
            "hostNetwork": True,
            "volumes": [{"name": name, "hostPath": {"path": path}} for name, path in paths.items()],
            "containers": [
                {
                    "name": CONTAINER,
                    "volumeMounts": [
                        {"name": name, "mountPath": path, "readOnly": path in readable} for name, path in paths.items()
                    ],
                }
            ],
        }
    }
    (home / "pod.yaml").write_text(json.dumps(template))
    task["image"] = cluster.require_image()
    return {
        "AIR_BACKEND": "kubernetes",
        "AIR_KUBERNETES_CLAIM": cluster.CLAIM,
        "AIR_KUBERNETES_CPU_REQUEST": "0.01",
        "AIR_KUBERNETES_NAMESPACE": namespace.name,
        "AIR_KUBERNETES_POD_TEMPLATE": str(home / "pod.yaml"),
        "AIR_KUBERNETES_PULL": "never",
        "AIR_KUBERNETES_SUB_PATH": f"{home.name}/{state_dir.name}",
    }


@pytest.fixture(scope="module", params=[on_docker, on_kubernetes])
def boxed(request: pytest.FixtureRequest, airflow: Airflow) -> Iterator[Airflow]:
    """Return the Airflow with a scheduler whose tasks run in containers."""
    python = airflow.programs / "python"
    found = subprocess.run([python, "-P", "-c", WHERE], capture_output=True, text=True, check=True, cwd="/")
    home, known = airflow.home, airflow.environ()
    task: dict[str, Any] = {
        "resources": {"memory": "1Gi"},
        "env": {
            "LOGNAME": "airflow",  # the image knows no user of that number, and Airflow wants a name
            "AIRFLOW_HOME": "/tmp/airflow",  # noqa: S108 - the container's own
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////tmp/none.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__CORE__DAGS_FOLDER": known["AIRFLOW__CORE__DAGS_FOLDER"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": known["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"],
        },
    }
    libraries = [path for path in LIBRARIES if os.path.isdir(path)]
    state_dir = home / f"state-{request.param.__name__}"
    readable = [*dict.fromkeys(found.stdout.split()), *libraries, str(home / "dags")]
    settings = request.param(state_dir, readable, task)
    more = {"AIRFLOW__AIR_EXECUTOR__TASK": json.dumps(task), "AIRFLOW__AIR_EXECUTOR__PYTHON": str(python), **SOON}
    executor = "air_executor.airflow.executor.AirExecutor"
    made = dataclasses.replace(airflow, state_dir=state_dir, executor=executor, more=more)
    state_dir.mkdir()
    with manager(state_dir, **settings):
        try:
            made.replace("scheduler")
            yield made
        finally:
            airflow.replace("scheduler")
    cluster.close_shared()


def test_tasks(boxed: Airflow) -> None:
    """Tasks run in containers, not as root, print and pass on values; no token is left."""
    boxed.write_dag(
        "boxed",
        """
@task
def t():
    print("printed as", os.getuid())
    return os.environ["AIR_WORKSPACE"]
t()
""",
        IMPORTS,
    )
    run = boxed.trigger("boxed")
    assert run.ended(180) == "success", run.log()
    assert run.xcom() == WORKSPACE
    (said,) = [line for line in run.log() if line.startswith("printed as")]
    assert said != "printed as 0"
    wait_for(lambda: all(state.ended for state in jobs_of(run)), 90, "the jobs")
    assert [state.phase for state in jobs_of(run)] == ["succeeded"]
    written = [path for path in boxed.state_dir.rglob("*") if path.is_file()]
    assert [path for path in written if b"eyJ" in path.read_bytes()] == []
    assert not list(boxed.state_dir.glob("jobs/*/workspace/workload.json"))


def test_missing_image(boxed: Airflow) -> None:
    """A missing image fails the task with that reason in its log, and no runner has started."""
    boxed.write_dag(
        "nowhere",
        """
@task(executor_config={"air_executor": {"image": "air-executor-test-nowhere:1"}})
def t():
    pass
t()
""",
        IMPORTS,
    )
    run = boxed.trigger("nowhere")
    assert run.ended(180) == "failed"
    assert "air-executor-test-nowhere:1" in run.log()[-1]
    (job,) = jobs_of(run)
    assert {attempt.reason for attempt in job.tasks["task"].attempts} == {"start-failed"}
