"""`airflow air-executor doctor` in a real Airflow: a correct set-up, and each kind of mistake."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.airflow.rig import Airflow

pytestmark = pytest.mark.timeout(900)


def ask(airflow: Airflow, *words: str, **environ: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the doctor with other settings; return its exit code, and verdict and text by check."""
    code, printed = replace(airflow, more={**airflow.more, **environ}).run("air-executor", "doctor", "--json", *words)
    found = json.loads(printed[printed.index("[\n") :])
    return code, {one["name"]: (one["verdict"], f"{one['text']}\n{one['remedy']}") for one in found}


def test_correct_set_up(airflow: Airflow) -> None:
    """With all components running nothing is broken, and no secret is printed."""
    code, found = ask(airflow)
    assert [one for one in found.items() if one[1][0] == "failed"] == []
    assert code == 0
    assert {
        "versions",
        "execution API",
        "API clock",
        "secret",
        "scheduler",
        "triggerer",
        "log folder",
        "manager",
    } <= set(found)
    printed = airflow.run("air-executor", "doctor")[1]
    assert "✓ execution API: " in printed
    assert airflow.environ()["AIRFLOW__API_AUTH__JWT_SECRET"] not in printed


def test_mistakes(airflow: Airflow) -> None:
    """Each of several mistakes is named with a remedy, and the exit code is 1; a weak secret causes a warning."""
    api = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
    log = {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": "/proc/logs", "AIR_STATE_DIR": "/nowhere"}
    for environ, wanted in (
        (
            {api: "http://127.0.0.1:9/execution/", **log},
            {"execution API": "cannot be reached", "log folder": "cannot be written", "manager": "no directory here"},
        ),
        ({api: "127.0.0.1:8080", "AIRFLOW__API_AUTH__JWT_SECRET": "short"}, {"execution API": "is no URL"}),
    ):
        code, found = ask(airflow, **environ)
        assert code == 1
        assert {name: found[name][0] for name in wanted} == dict.fromkeys(wanted, "failed")
        assert [name for name, words in wanted.items() if words not in found[name][1]] == []
    assert found["secret"][0] == "warning"


def test_connection(airflow: Airflow) -> None:
    """A connection is found where it is stored, in Airflow's database as well as in the environment."""
    extra = {"state_dir": str(airflow.state_dir), "backend": "local"}
    one = {"connection_id": "checked", "conn_type": "air_executor", "extra": json.dumps(extra)}
    airflow.ask("POST", "connections", json=one)
    code, found = ask(airflow, "--conn-id", "checked", AIR_STATE_DIR="/nowhere")
    assert (code, found["manager"][0]) == (0, "ok")
    wrong = json.dumps({"conn_type": "air_executor", "extra": {**extra, "backend": "docker"}})
    code, found = ask(airflow, "--conn-id", "given", AIRFLOW_CONN_GIVEN=wrong)
    assert code == 1
    assert "uses the backend local, not docker" in found["manager"][1]
    code, found = ask(airflow, "--conn-id", "none")
    assert code == 1
    assert "none" in found["state directory"][1]


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Return the address of a web server that isn't Airflow, answers late, and whose clock is years behind."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(0.3)
            self.send_response_only(200 if "execution" in self.path else 404)
            self.send_header("Date", "Mon, 23 Nov 2020 00:00:00 GMT")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_clock_and_components(airflow: Airflow, elsewhere: str) -> None:
    """Different clocks are an error; a slow API server, or one without component health, causes a warning."""
    environ = {"AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "0.2"}
    code, found = ask(airflow, AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"{elsewhere}/execution/", **environ)
    assert code == 1
    assert found["execution API"][0] == "warning"
    assert "tasks wait 0.2 s" in found["execution API"][1]
    assert found["API clock"][0] == "failed"
    assert "s ahead of the API server" in found["API clock"][1]
    assert found["components"][0] == "warning"
