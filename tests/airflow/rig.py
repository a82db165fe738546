"""A real Airflow on loopback with SQLite: its components, started one by one, and the actions of a person.

Airflow pins too much to be installed beside the tests' tools, so it is programs to them, in an environment of its own
that also has the package.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.conftest import wait_for

COMPONENTS = {
    "api-server": ["airflow", "api-server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"],
    "scheduler": ["airflow", "scheduler", "--skip-serve-logs"],
    "dag-processor": ["airflow", "dag-processor"],
    "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
    "second triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
    "slow triggerer": ["python", f"{Path(__file__).parent}/slow_triggerer.py", "triggerer", "--skip-serve-logs"],
}
USUAL = ("api-server", "scheduler", "dag-processor", "triggerer")
PAUSE = 0.5
"""Seconds between two looks at what Airflow does, which takes seconds: each costs it work that slows it down."""
ENDED = {"success", "failed", "skipped", "upstream_failed"}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Airflow:
    """One Airflow with a database of its own, whose tasks use one state directory."""

    programs: Path
    home: Path
    state_dir: Path
    executor: str = "LocalExecutor"
    more: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables."""
    port: int = 0
    database_dir: Path | None = None
    """Folder of its database; None: `home`."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _token: str | None = None

    def __post_init__(self) -> None:
        if not self.port:
            self.port = free_port()
        (self.home / "dags").mkdir(parents=True, exist_ok=True)

    @property
    def database(self) -> Path:
        """Path of its SQLite database."""
        return (self.database_dir or self.home) / "airflow.db"

    def environ(self) -> dict[str, str]:
        """Return the environment of all components."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIR_", "AIRFLOW", "PYTHON", "VIRTUAL_ENV"))}
        config = {
            "API__BASE_URL": f"http://127.0.0.1:{self.port}",
            "API_AUTH__JWT_SECRET": "a secret that only these tests have, long enough for its algorithm: 0123456789",
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "CORE__EXECUTOR": self.executor,
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "4",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__TEST_CONNECTION": "Enabled",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "400",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "WORKERS__EXECUTION_API_TIMEOUT": "60",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        }
        return {
            **clean,
            "PATH": f"{self.programs}:{clean['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in config.items()},
            "AIR_STATE_DIR": str(self.state_dir),
            **self.more,
        }

    # Components

    def run(self, *words: str, program: str = "airflow") -> tuple[int, str]:
        """Run `airflow`, or its Python, to its end; return its exit code and what it printed."""
        made = subprocess.run(
            [self.programs / program, *words],
            cwd=self.home,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return made.returncode, made.stdout

    def start(self, *names: str, **environ: str) -> None:
        """Start components, each in a session of its own, its output in a file; with further variables, if any."""
        for name in names:
            program, *words = [word.format(port=self.port) for word in COMPONENTS[name]]
            with (self.home / f"{name}.out").open("ab") as out:
                self.running[name] = subprocess.Popen(
                    [self.programs / program, *words],
                    cwd=self.home,
                    env={**self.environ(), **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        if "api-server" in names:
            wait_for(self.answers, 240, "the API server", pause=0.5)

    def answers(self) -> bool:
        """Tell whether the API server answers."""
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/api/v2/version", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop a component with a signal; with KILL also everything that it has started."""
        process = self.running.pop(name)
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        try:
            for _ in range(3):  # Airflow exits from its signal handler, which does nothing where a lock is released
                if number != signal.SIGKILL:
                    process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                    break
            process.wait(0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def pause(self, name: str) -> None:
        """Pause a component and everything that it has started, until `resume`; not while it has locked the database.

        One that is paused inside a transaction keeps SQLite's lock, and the others end by "database is locked".
        """
        os.killpg(self.running[name].pid, signal.SIGSTOP)
        while self.is_locked():
            self.resume(name)
            time.sleep(0.2)
            os.killpg(self.running[name].pid, signal.SIGSTOP)

    def is_locked(self) -> bool:
        """Tell whether somebody keeps the database locked for three seconds."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=3, isolation_level=None)) as database:
            try:
                database.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                return True
            database.execute("ROLLBACK")
            return False

    def resume(self, name: str) -> None:
        """Continue a paused component."""
        os.killpg(self.running[name].pid, signal.SIGCONT)

    def replace(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop a component with a signal and start it again."""
        self.stop(name, number)
        self.start(name)

    def restore(self) -> None:
        """Run the usual components and no others, whatever a failed test has left."""
        for name, process in list(self.running.items()):
            if name not in USUAL or process.poll() is not None:
                self.stop(name)
        self.start(*(name for name in USUAL if name not in self.running))

    def stop_all(self) -> None:
        """Stop everything."""
        for process in self.running.values():
            process.terminate()
        for name in list(self.running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(name)

    def fork_servers(self) -> list[psutil.Process]:
        """Return the fork servers of `AirExecutor`, not what they have forked."""
        found = psutil.process_iter(["cmdline", "ppid"])
        mine = [p for p in found if p.info["cmdline"] and "air_executor.airflow.fork_server" in p.info["cmdline"]]
        mine = [p for p in mine if any(str(self.home) in word for word in p.info["cmdline"])]
        return [p for p in mine if p.info["ppid"] not in {other.pid for other in mine}]

    def output(self) -> str:
        """Return the end of what each component printed; for the message of a failed test."""
        outputs = {path.name: path.read_text().splitlines() for path in sorted(self.home.glob("*.out"))}
        noise = ("[info", "http.access", "  Pydantic")
        shown = {name: [line for line in lines if not any(n in line for n in noise)] for name, lines in outputs.items()}
        return "\n".join(f"== {name}\n" + "\n".join(lines[-20:]) for name, lines in shown.items())

    # What a person does

    def ask(self, method: str, path: str, **kwargs: Any) -> Any:
        """Ask the public API; return the decoded answer."""
        if self._token is None:
            self._token = requests.get(f"http://127.0.0.1:{self.port}/auth/token", timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}", **kwargs.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}/api/v2/{path}"
        for _ in range(10):
            answer = requests.request(method, url, headers=headers, timeout=120, **kwargs)
            if answer.status_code < 500 or not any(w in answer.text for w in ("Database error", "Database is locked")):
                break
            time.sleep(0.5)  # SQLite has refused one of two who wrote at the same time
        if not answer.ok:
            message = f"{method} {path}: {answer.status_code} {answer.text[:500]}"
            raise AssertionError(message)
        return answer.json() if answer.content else None

    def write_dag(self, dag: str, body: str, imports: str = "", schedule: str = "schedule=None") -> None:
        """Write a DAG of the given statements, and wait until Airflow knows it if it runs.

        `schedule` may be followed by other arguments of a DAG.
        """
        indented = "\n".join(f"    {line}" for line in body.splitlines())
        text = (
            "from __future__ import annotations\nfrom datetime import timedelta\n"
            "from airflow.sdk import DAG, task\nfrom air_executor.airflow.operators import AirExecutorOperator\n"
            f"{imports}\nwith DAG(dag_id={dag!r}, {schedule}, is_paused_upon_creation=False):\n{indented}\n"
        )
        (self.home / "dags" / f"{dag}.py").write_text(text)
        if "dag-processor" in self.running:
            wait_for(lambda: self.knows(dag), 240, f"DAG {dag}", pause=PAUSE)

    def knows(self, dag: str) -> bool:
        """Tell whether Airflow has parsed a DAG; fail if it could not."""
        errors = self.ask("GET", "importErrors")["import_errors"]
        mine = [error["stack_trace"] for error in errors if error["filename"].endswith(f"{dag}.py")]
        assert not mine, mine[0]
        return any(found["dag_id"] == dag for found in self.ask("GET", "dags?limit=1000")["dags"])

    def jobs(self, kind: str) -> list[dict[str, Any]]:
        """Return the running components of a kind."""
        found: list[dict[str, Any]] = self.ask("GET", f"jobs?job_type={kind}&is_alive=true")["jobs"]
        return found

    def trigger(self, dag: str) -> Run:
        """Start a run of a DAG."""
        made = self.ask("POST", f"dags/{dag}/dagRuns", json={"logical_date": None})
        return Run(self, dag, made["dag_run_id"])


@dataclass(frozen=True)
class Run:
    """One run of a DAG."""

    airflow: Airflow
    dag: str
    id: str
    task: str = "t"
    """The task that is meant unless another one is named."""

    @property
    def path(self) -> str:
        """Path of the run in the API."""
        return f"dags/{self.dag}/dagRuns/{self.id}"

    def ti(self, task: str | None = None, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance as the API shows it."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        found: dict[str, Any] = self.airflow.ask("GET", f"{self.path}/taskInstances/{task or self.task}{mapped}")
        return found

    def state(self, task: str | None = None) -> str | None:
        """Return the state of a task."""
        found: str | None = self.ti(task)["state"]
        return found

    def wait(self, *states: str, task: str | None = None, seconds: float = 180) -> dict[str, Any]:
        """Wait until a task is in one of these states, by default an ended one, and return it."""
        wanted = set(states) or ENDED
        seen: list[Any] = []

        def there() -> bool:
            found = self.ti(task)
            seen[:] = [found]
            return found["state"] in wanted

        wait_for(there, seconds, f"{self.dag}.{task or self.task} to be {'/'.join(sorted(wanted))}", pause=PAUSE)
        found: dict[str, Any] = seen[0]
        return found

    def done(self, seconds: float = 180) -> str:
        """Wait for the end of the task and return its state."""
        return str(self.wait(seconds=seconds)["state"])

    def ended(self, seconds: float = 180) -> str:
        """Wait for the end of the run and return its state."""
        wait_for(lambda: self.airflow.ask("GET", self.path)["state"] in ENDED, seconds, f"{self.dag} to end", PAUSE)
        return str(self.airflow.ask("GET", self.path)["state"])

    def log(self, task: str | None = None, number: int = 1) -> list[str]:
        """Return what Airflow's log view shows of one try, line by line."""
        answer = self.airflow.ask(
            "GET",
            f"{self.path}/taskInstances/{task or self.task}/logs/{number}",
            headers={"Accept": "application/json"},
        )
        return [_text(line) for line in answer["content"]]

    def xcom(self, key: str = "return_value", task: str | None = None, map_index: int = -1) -> Any:
        """Return a value that a task has pushed; None if it has not."""
        try:
            found = self.airflow.ask(
                "GET",
                f"{self.path}/taskInstances/{task or self.task}/xcomEntries/{key}",
                params={"map_index": map_index},
            )
        except AssertionError as error:
            if " 404 " in str(error):
                return None
            raise
        value = found["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value

    def mark(self, state: str, task: str | None = None) -> None:
        """Mark a task as a person does."""
        self.airflow.ask("PATCH", f"{self.path}/taskInstances/{task or self.task}", json={"new_state": state})

    def clear(self, task: str | None = None) -> None:
        """Clear a task as a person does."""
        self.airflow.ask(
            "POST",
            f"dags/{self.dag}/clearTaskInstances",
            json={"dag_run_id": self.id, "task_ids": [task or self.task], "dry_run": False, "only_failed": False},
        )


def _text(line: Any) -> str:
    if not isinstance(line, Mapping):
        return str(line)
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return " ".join([str(line["event"]), *errors])


@contextlib.contextmanager
def manager(state_dir: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a manager, with its page on a port of its own."""
    import sys  # noqa: PLC0415

    from air_executor.store.layout import Layout  # noqa: PLC0415
    from air_executor.store.presence import read_presence  # noqa: PLC0415

    clean = {k: v for k, v in os.environ.items() if not k.startswith("AIR_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "air_executor", "--state-dir", str(state_dir), "manager"],
        env={**clean, "AIR_HTTP_PORT": str(free_port()), "AIR_MAX_RUNNERS": "8", **environ},
        cwd=state_dir.parent,
    )
    try:
        wait_for(lambda: read_presence(Layout(state_dir)).running, 120, "the manager")
        yield process
    finally:
        process.terminate()
        process.wait(30)
