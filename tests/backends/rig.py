# ruff: noqa: D102 - the abstract class says what each method is for
"""What a backend needs to be put through the contract: one class per platform, named in `RIGS`.

A rig makes backends that share one platform, and launches whose tasks behave as the contract asks. Tasks are `sh`
commands that talk through their workspace, so a container platform can use the same ones.
"""

from __future__ import annotations

import abc
import contextlib
import ctypes
import enum
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor.backends.base import Backend, Launch
from air_executor.backends.container.refusals import ConflictError, MissingError
from air_executor.backends.docker import DockerBackend
from air_executor.backends.docker import make_backend as make_docker_backend
from air_executor.backends.docker.container_cache import Phase
from air_executor.backends.docker.container_spec import EngineConfig
from air_executor.backends.docker.docker_setup import make_engine_config
from air_executor.backends.docker.engine import Engine
from air_executor.backends.kubernetes import KubernetesBackend
from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend
from air_executor.backends.kubernetes.kubernetes_setup import make_cluster_config
from air_executor.backends.kubernetes.manifests import RUN
from air_executor.backends.local.cgroup_files import NoCgroupsError
from air_executor.backends.local.cgroups import open_cgroups
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.backends.local.processes import Processes
from air_executor.backends.local.psutil_processes import PsutilProcesses
from air_executor.backends.local.system_processes import system_processes
from air_executor.errors import AirExecutorError
from air_executor.model.names import Slot
from air_executor.runner import native
from air_executor.settings import DockerSettings, KubernetesSettings, Settings
from air_executor.store.layout import Layout
from air_executor.store.service_logs import keeper_of
from tests import lanes
from tests.backends import spawn_once
from tests.backends.spawn_once import HOST
from tests.cluster import CLAIM, shared_namespace
from tests.cluster import require_image as require_cluster_image
from tests.conftest import wait_for
from tests.engine import require_image
from tests.fake_backend import FakeBackend, FakePlatform
from tests.forked import forked
from tests.runner.rig import SCRIPT, require_native

GRACE = 0.3
"""Seconds; short, because some tests have to sit it out."""

_UNTIL_RELEASED = 'while [ ! -e "$AIR_WORKSPACE/release-$AIR_RUN_ID" ]; do sleep 0.02; done'
_READY = 'true >"$AIR_WORKSPACE/ready-$AIR_RUN_ID"'


class Task(enum.Enum):
    """How a task behaves; the value is the command that does it."""

    ENDS = f"{_READY}"
    WAITS = f"{_READY}; {_UNTIL_RELEASED}"
    LEAVES_CHILD = f"( {_UNTIL_RELEASED} ) & {_READY}"
    IGNORES_TERM = f"trap '' TERM; {_READY}; {_UNTIL_RELEASED}"


class Rig(abc.ABC):
    """One platform with nothing on it."""

    patience = 120.0
    """Seconds that anything on it may take."""
    contenders = 20 if lanes.NIGHTLY else 8
    """How many compete for one slot."""
    repeats = 5
    """How often a test does what must work many times over."""
    ends_leftovers = False
    """Whether a runner ends what its command has left, before it ends itself."""

    @abc.abstractmethod
    def backend(self) -> Backend:
        """Return another backend on this platform."""

    @abc.abstractmethod
    def launch(self, slot: Slot, seq: int, task: Task) -> Launch:
        """Return a launch of a task of that behaviour."""

    @abc.abstractmethod
    def release(self, launch: Launch) -> None:
        """Let a task that waits end."""

    @abc.abstractmethod
    def is_ready(self, launch: Launch) -> bool:
        """Tell whether the task got as far as its behaviour."""

    @abc.abstractmethod
    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        """Spawn from another process, and kill that one as soon as `spawn` has returned."""

    @abc.abstractmethod
    def race(self, contenders: Sequence[Callable[[], None]]) -> list[AirExecutorError | None]:
        """Run all at the same time, as far as the platform can, and return what each raised."""

    def step(self) -> None:  # noqa: B027 - most platforms move by themselves
        """Let the platform move on, where it does not by itself."""

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while the platform moves on."""

        def moved() -> bool:
            if condition():
                return True
            self.step()
            return False

        wait_for(moved, timeout=self.patience, what=what)

    def close(self) -> None:  # noqa: B027 - nothing is left in memory
        """Leave nothing behind."""


class FakeRig(Rig):
    """The platform in memory; removals take a step."""

    def __init__(self, root: Path, *, keeps_names: bool = False) -> None:
        self.platform = FakePlatform(slow_removal=True, keeps_names=keeps_names, on_spawn=self._act)
        self._root = root
        self._ending: list[Slot] = []

    def backend(self) -> Backend:
        return FakeBackend(self.platform)

    def launch(self, slot: Slot, seq: int, task: Task) -> Launch:
        return make_launch(Layout(self._root), slot, seq, task)

    def release(self, launch: Launch) -> None:
        self.platform.end(launch.slot)

    def is_ready(self, launch: Launch) -> bool:
        return launch.run in self.platform.spawned

    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        self.backend().spawn(launch)

    def race(self, contenders: Sequence[Callable[[], None]]) -> list[AirExecutorError | None]:
        return [attempt(contender) for contender in contenders]

    def step(self) -> None:
        for slot in self._ending:
            self.platform.end(slot, lingers=self.platform.runners[slot].launch.argv[-1] == Task.LEAVES_CHILD.value)
        self._ending.clear()
        self.platform.settle()

    def _act(self, launch: Launch) -> None:
        if launch.argv[-1] in {Task.ENDS.value, Task.LEAVES_CHILD.value}:
            self._ending.append(launch.slot)


class LocalRig(Rig):
    """Processes of this machine, with a state directory below `root`."""

    def __init__(
        self, root: Path, *, portable: bool = False, is_native: bool = False, in_cgroups: bool = False
    ) -> None:
        self.layout = Layout(root / "state")
        self.portable = portable
        self.in_cgroups = in_cgroups
        if in_cgroups:
            require_cgroups()
        self._backends: list[LocalBackend] = []
        if portable:  # an earlier test may have left this on, which no system without pidfd has
            set_subreaper(on=False)
        Path(self.layout.bin).mkdir(parents=True)
        shutil.copy(SCRIPT, self.layout.bin)
        if is_native:
            machine = Path(self.layout.bin, str(native.this_machine()))
            machine.mkdir()
            shutil.copy(require_native(), machine / native.NAME)

    def processes(self) -> Processes:
        """Return what the backends list processes with."""
        return PsutilProcesses() if self.portable else system_processes()

    def backend(self, layout: Layout | None = None) -> LocalBackend:
        layout = layout or self.layout
        make_cgroups = partial(open_cgroups, layout.root) if self.in_cgroups else None
        backend = LocalBackend(layout, HOST, environ=os.environ, processes=self.processes(), make_cgroups=make_cgroups)
        self._backends.append(backend)
        return backend

    def launch(self, slot: Slot, seq: int, task: Task) -> Launch:
        return self.command(slot, seq, task.value)

    def command(self, slot: Slot, seq: int, script: str) -> Launch:
        """Return a launch of any `sh` script."""
        launch = make_launch(self.layout, slot, seq, script)
        Path(launch.workspace).mkdir(parents=True, exist_ok=True)
        Path(launch.out_dir).mkdir(parents=True, exist_ok=True)
        return launch

    def release(self, launch: Launch) -> None:
        Path(launch.workspace, f"release-{launch.run}").touch()

    def is_ready(self, launch: Launch) -> bool:
        return Path(launch.workspace, f"ready-{launch.run}").exists()

    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        # The runner must become another process's child, as it does when a manager of another session dies.
        with not_adopting_orphans():
            spawn_and_kill("local", [self.layout.root, self.portable, self.in_cgroups], launch)

    def race(self, contenders: Sequence[Callable[[], None]]) -> list[AirExecutorError | None]:
        start = threading.Barrier(len(contenders))
        outcomes: list[AirExecutorError | None] = [None] * len(contenders)

        def run(index: int) -> None:
            start.wait()
            outcomes[index] = attempt(contenders[index])

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(contenders))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    def members(self) -> list[psutil.Process]:
        """Return the live processes that carry this state directory in their environment or hold a file of it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and self._is_member(process):
                    found.append(process)
        return found

    def _is_member(self, process: psutil.Process) -> bool:
        if sys.platform == "linux":  # psutil takes three times as long, and a machine can have many processes
            proc = f"/proc/{process.pid}"
            with open(f"{proc}/environ", "rb") as file:
                if f"\0AIR_WORKSPACE={self.layout.root}/".encode() in b"\0" + file.read():
                    return True
            paths = [os.readlink(f"{proc}/fd/{number}") for number in os.listdir(f"{proc}/fd")]
        elif process.status() == psutil.STATUS_ZOMBIE:
            return False
        elif process.environ().get("AIR_WORKSPACE", "").startswith(f"{self.layout.root}/"):
            return True
        else:
            paths = [file.path for file in process.open_files()]
        return any(path.startswith(f"{self.layout.jobs}/") for path in paths)

    def clear(self) -> bool:
        """Kill all members, and tell whether there were none; what forks meanwhile is there the next time."""
        left = self.members()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not left

    def close(self) -> None:
        wait_for(self.clear, what="the last process of the test to go")
        for backend in self._backends:
            backend.close()
        last = self.backend()

        def is_free() -> bool:
            for slot in last.observe():  # and reaps what came to us
                last.remove(slot)  # what can be seen in its cgroup alone
            return not last.observe()

        wait_for(is_free, what="the slots to be free")
        last.close()


class NativeRig(LocalRig):
    """Processes of this machine without cgroups."""

    ends_leftovers = True

    def __init__(self, root: Path) -> None:
        super().__init__(root, is_native=True)


class DockerRig(LocalRig):
    """Containers of a real engine, with a state directory below `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, is_native=True)
        open_to_tasks(root)
        self.settings = docker_settings(self.layout.root, f"rig{os.getpid() % 10**8}", require_image())
        self._made: list[Backend] = []

    @property
    def config(self) -> EngineConfig:
        """What all containers have in common."""
        with contextlib.closing(Engine(30)) as engine:
            return make_engine_config(self.settings, engine, "0")

    def docker(self, **settings: Any) -> DockerBackend:  # noqa: ANN401 - any setting of the group
        """Return another backend, with other settings where given."""
        whole = self.settings.model_copy(update={"docker": self.settings.docker.model_copy(update=settings)})
        backend = make_docker_backend(whole, "0", keeper_of(self.layout))
        self._made.append(backend)
        return backend

    def backend(self, layout: Layout | None = None) -> Any:  # noqa: ANN401 - see `Rig`
        assert layout is None
        return self.docker()

    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        settings = [self.settings.state_dir, self.settings.name_prefix, self.settings.runner_image]
        spawn_and_kill("docker", settings, launch)

    def close(self) -> None:
        for backend in self._made:
            backend.close()
        engine = Engine(30)
        config = make_engine_config(self.settings, engine, "0")
        for entry in engine.list(config.selector):
            with contextlib.suppress(ConflictError, MissingError):
                engine.kill(entry["Id"], "KILL")
            with contextlib.suppress(MissingError):
                wait_for(partial(_is_deleted, engine, entry["Id"]), what="the container to be removed")
        engine.close()


class KubernetesRig(LocalRig):
    """Jobs of a real cluster, with a state directory below `root` in a namespace that all tests share."""

    repeats = 5 if lanes.NIGHTLY else 2
    patience = 300.0  # an old kubelet that misses a deletion while it starts a pod looks again after 60 to 90 s

    def __init__(self, root: Path, image: str | None = None) -> None:
        super().__init__(root, is_native=True)
        open_to_tasks(root)
        self.namespace = shared_namespace(str(root.parent))
        image = image or require_cluster_image()
        self.settings = kubernetes_settings(self.layout.root, self.namespace.name, image)
        self._made: list[Backend] = []

    def kubernetes(self, **settings: Any) -> KubernetesBackend:  # noqa: ANN401 - any setting of the group
        """Return another backend, with other settings where given."""
        whole = self.settings.model_copy(update={"kubernetes": self.settings.kubernetes.model_copy(update=settings)})
        backend = make_kubernetes_backend(whole, "0", keeper_of(self.layout))
        self._made.append(backend)
        return backend

    def backend(self, layout: Layout | None = None) -> Any:  # noqa: ANN401 - see `Rig`
        assert layout is None
        return self.kubernetes()

    def is_ready(self, launch: Launch) -> bool:
        # Not before its node has said so: an old kubelet can miss the deletion of a pod that it is about to start.
        pods = (pod for pod in self.namespace.pods() if pod["metadata"]["labels"].get(RUN) == launch.run)
        return super().is_ready(launch) and any(pod["status"].get("phase") != "Pending" for pod in pods)

    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        settings = [self.settings.state_dir, self.namespace.name, self.settings.runner_image]
        spawn_and_kill("kubernetes", settings, launch)

    def close(self) -> None:
        for backend in self._made:
            backend.close()
        self.namespace.clear(make_cluster_config(self.settings, self.namespace.name, "0").selector)


def open_to_tasks(root: Path) -> None:
    """Let others into a test's folder: tasks in containers are not root, and temporary folders are 0700."""
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)


def kubernetes_settings(state_dir: str, namespace: str, image: str | None) -> Settings:
    """Return the settings of a manager of Jobs; what they reserve is small, for the node is."""
    inside = Path(state_dir)
    group = KubernetesSettings(
        claim=CLAIM,
        sub_path=f"{inside.parent.name}/{inside.name}",
        namespace=namespace,
        pull="never",
        cpu_request=0.01,
        memory_request=1 << 20,
    )
    return Settings(state_dir=state_dir, runner_image=image, kubernetes=group)


def docker_settings(state_dir: str, prefix: str, image: str | None) -> Settings:
    """Return the settings of a manager of containers."""
    group = DockerSettings(network="air-test")
    return Settings(state_dir=state_dir, name_prefix=prefix, runner_image=image, docker=group)


def _is_deleted(engine: Engine, container: str) -> bool:
    try:
        engine.delete(container)
    except ConflictError:
        return False
    except MissingError:
        return True
    return True


def _over_http(root: Path) -> Rig:
    from tests.backends.over_http import OverHttpRig  # noqa: PLC0415 - it is a rig, too

    return OverHttpRig(root)


RIGS: dict[str, Callable[[Path], Rig]] = {
    "fake": FakeRig,
    "fake-keeps-names": lambda root: FakeRig(root, keeps_names=True),
    "local": LocalRig,
    "local-native": NativeRig,
    "local-cgroup": lambda root: LocalRig(root, is_native=True, in_cgroups=True),
    "docker": DockerRig,
    "kubernetes": KubernetesRig,
    "kubernetes-http": _over_http,
    "local-portable": lambda root: LocalRig(root, portable=True),
}


def require_cgroups() -> frozenset[str]:
    """Return the controllers that limit a run's cgroup here; skip the test where none can be made."""
    try:
        groups = open_cgroups(f"/nowhere-{os.getpid()}")  # closing removes it, beside other tests
    except NoCgroupsError as error:
        pytest.skip(f"no cgroups can be made here: {error}")
    groups.close()
    return groups.controllers


def make_launch(layout: Layout, slot: Slot, seq: int, task: Task | str) -> Launch:
    """Return a launch as the manager would make it."""
    run = f"0badcafe-{seq}"
    script = task.value if isinstance(task, Task) else task
    environ = {"AIR_JOB_ID": slot.job, "AIR_TASK_ID": "t", "AIR_RUN_ID": run}
    return Launch(
        slot=slot,
        uid="0badcafe",
        run=run,
        task="t",
        argv=("sh", "-c", script),
        env=environ,
        out_dir=layout.run(slot.job, seq, "t"),
        workspace=layout.workspace(slot.job),
        bin_dir=layout.bin,
        project=layout.workspace(slot.job),
        machines=set(native.MACHINES.values()),
        grace=GRACE,
    )


def spawn_and_kill(kind: str, parts: Sequence[object], launch: Launch) -> None:
    """Spawn from a process of its own, whose backend is made of these parts, and kill it once it has spawned."""
    listening, telling = multiprocessing.Pipe(duplex=False)
    manager = forked(spawn_once.main, kind, parts, launch, dict(os.environ), telling)
    telling.close()
    with listening:
        assert listening.recv() == "spawned"
    manager.kill()
    manager.join()


def await_container(backend: Backend, slot: Slot) -> None:
    """Wait until a backend knows that the container of a slot runs."""
    assert isinstance(backend, DockerBackend)
    cache = backend._cache
    wait_for(lambda: (one := cache.in_slot(slot)) is not None and one.phase is Phase.RUNNING, what="the start")


def attempt(action: Callable[[], None]) -> AirExecutorError | None:
    """Return what an action raised."""
    try:
        action()
    except AirExecutorError as error:
        return error
    return None


@contextlib.contextmanager
def not_adopting_orphans() -> Iterator[None]:
    """Let orphans of our descendants go to init meanwhile, though a backend in this process may want them."""
    before = set_subreaper(on=False)
    try:
        yield
    finally:
        set_subreaper(on=before)


def set_subreaper(*, on: bool) -> bool:
    """Say whether we get the orphans below this process, and return what was so before; Linux alone has this choice."""
    before = ctypes.c_int(0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(37, ctypes.byref(before), 0, 0, 0)
        libc.prctl(36, int(on), 0, 0, 0)
    return bool(before.value)
