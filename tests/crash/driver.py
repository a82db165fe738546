"""A manager in a process of its own: forked, which costs milliseconds where a fresh interpreter costs half a second."""

from __future__ import annotations

import importlib
import logging
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from urllib.parse import urlsplit

import watchfiles  # noqa: F401 - imported before the fork, once for all managers

import air_executor.backends.local
import air_executor.manager.loop  # noqa: F401 - the same
from air_executor.errors import AirExecutorError, ManagerHeldError
from air_executor.settings import load
from air_executor.wiring import make_manager, serve_runs
from tests.crash import check, faults

HELD = ManagerHeldError.exit_code
BUG = 70
"""Exit code of a manager that raised what it should not."""


@dataclass(frozen=True, slots=True)
class Docker:
    """How a manager comes to its containers."""

    address: str
    """Of the engine."""
    prefix: str
    image: str
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class Jobs:
    """How a manager comes to its Jobs."""

    kubeconfig: str
    namespace: str
    claim: str
    sub_path: str
    """Of the state directory in the claim."""
    image: str
    template: str
    """A file, merged into each pod."""
    url: str = ""
    """At which pods reach the manager; empty: they see the volume."""
    port: int = 0
    """On which it listens at that address."""
    timeout: float = 2.0
    silence: float = 5.0
    """Seconds after which a watch that brings nothing counts as dead; by default that takes longer than a trial."""


@dataclass(frozen=True, slots=True)
class How:
    """How to run a manager."""

    project: str
    max_runners: int = 4
    events: bool = False
    poll_interval: float = 0.1
    platform_retries: int = 100
    from_files: bool = False
    webhook: str = "http://127.0.0.1:9/"
    """Where notifications go."""
    faults: float = 0.0
    seed: int = 0
    docker: Docker | None = None
    jobs: Jobs | None = None
    """Without either, runners are processes."""

    @property
    def state_dir(self) -> str:
        """The state directory of that project."""
        return f"{self.project}/.air-executor"


class Driven:
    """One manager process, our child."""

    def __init__(self, how: How) -> None:
        self.how = how
        self.code: int | None = None
        """Its exit code, negative for a signal, once it is known to have left."""
        sys.stdout.flush()
        # A SIGTERM that comes before the manager handles it waits for that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.pid = os.fork()
        if self.pid == 0:
            try:
                code = _manage(how)
            except BaseException:  # noqa: BLE001 - it must not return into the parent's stack
                traceback.print_exc()
                code = BUG
            sys.stderr.flush()
            os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def alive(self) -> bool:
        """Tell whether it still runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
            self.wait(120)

    def stop(self) -> int:
        """SIGTERM, and return its exit code."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        return self.wait(120)

    def wait(self, timeout: float) -> int:
        """Wait until it has left, and return its exit code."""
        until = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                msg = f"manager {self.pid} did not leave within {timeout:g} s"
                raise TimeoutError(msg)
            time.sleep(0.002)
        assert self.code is not None
        return self.code


def _manage(how: How) -> int:
    os.chdir(how.project)
    output = os.open("manager.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    log = logging.getLogger("driver")
    logging.basicConfig(
        level=logging.INFO,
        force=True,
        format=f"%(asctime)s {os.getpid()} %(levelname)s %(name)s %(message)s",
    )
    for name in [name for name in os.environ if name.startswith("AIR_")]:
        del os.environ[name]
    flags: dict[str, object] = {
        "state_dir": how.state_dir,
        "max_runners": how.max_runners,
        "poll_interval": how.poll_interval,
        "platform_retries": how.platform_retries,
        "events": how.events,
        "notify": check.NOTIFY,
    }
    os.environ["AIR_NOTIFY_OPS"] = how.webhook
    if how.docker is not None:
        os.environ["DOCKER_HOST"] = how.docker.address
        flags |= {
            "backend": "docker",
            "name_prefix": how.docker.prefix,
            "runner_image": how.docker.image,
            "docker.timeout": how.docker.timeout,
        }
    if how.jobs is not None:
        os.environ["KUBECONFIG"] = how.jobs.kubeconfig
        flags |= {
            "backend": "kubernetes",
            "runner_image": how.jobs.image,
            "kubernetes.namespace": how.jobs.namespace,
            "kubernetes.claim": how.jobs.claim,
            "kubernetes.sub_path": how.jobs.sub_path,
            "kubernetes.pod_template": how.jobs.template,
            "kubernetes.pull": "never",
            "kubernetes.timeout": how.jobs.timeout,
            "kubernetes.visibility": 0.01,
            "kubernetes.cpu_request": 0.01,
            "kubernetes.memory_request": 1 << 20,
        }
        if how.jobs.url:
            flags |= {
                "kubernetes.transport": "http",
                "kubernetes.transport_url": how.jobs.url,
                "http_host": urlsplit(how.jobs.url).hostname,
                "http_port": how.jobs.port,
            }
        watch = importlib.import_module("air_executor.backends.kubernetes.object_watch")
        watch.SILENCE_SECONDS = how.jobs.silence  # type: ignore[attr-defined]
    settings = load(flags, env={}, cwd=how.project)
    manager = make_manager(settings, from_files=how.from_files)
    if how.faults:
        faulty = faults.install(faults.at_random(random.Random(how.seed), how.faults), setattr)
        faulty.writes_whole = False
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: manager.stop())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        with serve_runs(settings):
            manager.start()
            log.info("epoch %d", manager.epoch)
            manager.run()
    except AirExecutorError as error:
        log.error("%s: %s", type(error).__name__, error)  # noqa: TRY400 - what a user would see
        return error.exit_code
    return 0
