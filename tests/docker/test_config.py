"""From a launch to a container's description: whole values, without an engine."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import Launch, LaunchWorktree
from air_executor.backends.docker.container_spec import EngineConfig, carry_bytes, container_config
from air_executor.backends.docker.images import ImageFacts
from air_executor.backends.docker.mount_conflicts import MountSet, mounted, requested
from air_executor.backends.docker.path_mapping import PathMapping
from air_executor.errors import BadInputError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.settings import DockerSettings

SECRET = "hunter2"  # noqa: S105 - of a task that exists nowhere


def make(project: Path, **fields: Any) -> tuple[EngineConfig, Launch]:  # noqa: ANN401 - fields of `Launch`
    """Return a config and a launch in a project folder."""
    state = project / ".air-executor"
    state.mkdir(exist_ok=True)
    config = EngineConfig(
        state_dir=str(state),
        location=str(state),
        prefix="air",
        version="1.2",
        image="python:3",
        user=(1000, 1001),
        path_mapping=PathMapping(),
        settings=DockerSettings(),
    )
    launch = Launch(
        slot=Slot("census", 0),
        uid="0badcafe",
        run="0badcafe-7",
        task="count",
        argv=("sh", "-c", "true"),
        env={"AIR_JOB_ID": "census"},
        out_dir=f"{state}/jobs/census/runs/7-count",
        workspace=f"{state}/jobs/census/workspace",
        bin_dir=f"{state}/bin",
        project=str(project),
        machines={"x86_64", "aarch64"},
    )
    return config, dataclasses.replace(launch, **fields)


def own_mounts(project: Path) -> list[dict[str, Any]]:
    """Return the mounts that every container has."""
    state = project / ".air-executor"
    folders = {"/air/out": "jobs/census/runs/7-count", "/air/workspace": "jobs/census/workspace", "/air/bin": "bin"}
    return [
        {"Type": "bind", "Source": f"{state}/{folder}", "Target": target, "ReadOnly": target == "/air/bin"}
        for target, folder in folders.items()
    ]


def test_a_plain_task(tmp_path: Path) -> None:
    """A task that asks for nothing: hardened, limited, and with its own three mounts."""
    config, launch = make(tmp_path)
    assert container_config(config, launch, ImageFacts()) == {
        "Image": "python:3",
        "Entrypoint": ["sh"],
        "Cmd": ["/air/bin/air-runner", "/air/out", "/air/workspace", "-", "10", "container", "sh", "-c", "true"],
        "Env": [
            "HOME=/tmp",
            "AIR_JOB_ID=census",
            "AIR_QUEUE=/air/out/queue.jsonl",
            "AIR_RESULT=/air/out/result.json",
            "AIR_INPUTS=/air/out/inputs.json",
            "AIR_OUTCOMES=/air/out/outcomes.json",
            "AIR_WORKSPACE=/air/workspace",
            "AIR_SLOT=0",
            "_air_bin=/air/bin",
            "_air_image=python:3",
        ],
        "User": "1000:1001",
        "WorkingDir": "/",
        "Hostname": "census",
        "Labels": {
            "air-executor.instance": config.instance,
            "air-executor.state-dir": str(tmp_path / ".air-executor"),
            "air-executor.job": "census",
            "air-executor.uid": "0badcafe",
            "air-executor.run": "0badcafe-7",
            "air-executor.task": "count",
            "air-executor.slot": "0",
            "air-executor.grace": "10",
            "air-executor.version": "1.2",
        },
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "StopTimeout": 12,
        "HostConfig": {
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=268435456"},  # noqa: S108 - the container's own
            "PidsLimit": 1024,
            "Memory": 2 << 30,
            "MemorySwap": 2 << 30,
            "NetworkMode": "air-executor",
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}},
            "RestartPolicy": {"Name": "no"},
            "Mounts": own_mounts(tmp_path),
        },
    }


def test_a_task_with_everything(tmp_path: Path) -> None:
    """What a task says replaces a default, and no more changes; of a mount the state directory is hidden."""
    (tmp_path / "data").mkdir()
    plain = container_config(*make(tmp_path), ImageFacts())
    config, launch = make(
        tmp_path,
        slot=Slot("census", 3),
        env={"AIR_JOB_ID": "census", "PYTHONPATH": "/mine", "HOME": "/home/me"},
        workdir="sub",
        timeout=90.5,
        grace=0.25,
        secrets={"TOKEN": SECRET},
        options={
            "image": "node:22",
            "network": "none",
            "resources": {"memory": 64 << 20, "cpu": 0.5, "gpu": 2},
            "mounts": [
                {"source": ".", "target": "/project", "read_only": True},
                {"source": "data/../data", "target": "/data"},
                {"source": "/srv/models/", "target": "/models"},
            ],
        },
    )
    settings = DockerSettings(allow_mounts=("/srv/models",), pids=64, read_only=False, tmp_size=1 << 20)
    made = container_config(dataclasses.replace(config, settings=settings), launch, ImageFacts())
    host = plain["HostConfig"] | {
        "ReadonlyRootfs": False,
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=1048576"},  # noqa: S108 - the container's own
        "PidsLimit": 64,
        "Memory": 64 << 20,
        "MemorySwap": 64 << 20,
        "NanoCpus": 500_000_000,
        "DeviceRequests": [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}],
        "NetworkMode": "none",
        "Mounts": [
            *own_mounts(tmp_path),
            {"Type": "bind", "Source": str(tmp_path), "Target": "/project", "ReadOnly": True},
            {
                "Type": "tmpfs",
                "Target": "/project/.air-executor",
                "ReadOnly": True,
                "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o555},
            },
            {"Type": "bind", "Source": str(tmp_path / "data"), "Target": "/data", "ReadOnly": False},
            {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": False},
        ],
    }
    words = ["/air/bin/air-runner", "/air/out", "/project/sub", "90.5", "0.25", "container", "sh", "-c", "true"]
    env = [
        "HOME=/home/me",
        "AIR_JOB_ID=census",
        "PYTHONPATH=/mine",
        *(line for line in plain["Env"] if line.startswith("AIR_") and line not in {"AIR_JOB_ID=census", "AIR_SLOT=0"}),
        "_air_bin=/air/bin",
        "_air_image=node:22",
        "AIR_SLOT=3",
        f"TOKEN={SECRET}",
    ]
    labels = plain["Labels"] | {"air-executor.slot": "3", "air-executor.grace": "0.25"}
    expected = plain | {"Image": "node:22", "Cmd": words, "StopTimeout": 3, "Labels": labels, "HostConfig": host}
    assert made | {"Env": sorted(made["Env"])} == expected | {"Env": sorted(env)}
    assert SECRET not in str(made | {"Env": []})


def test_the_runner_is_the_one_for_the_image(tmp_path: Path) -> None:
    """A native runner needs nothing of the image; where there is none for it, or it cannot run, a shell has to do."""
    config, launch = make(tmp_path)
    native = Path(launch.bin_dir, "aarch64", "air-runner")
    native.parent.mkdir(parents=True)
    native.touch(mode=0o755)
    words = container_config(config, launch, ImageFacts())["Cmd"]
    for facts in (ImageFacts(), ImageFacts("x86_64")):
        assert container_config(config, launch, facts)["Entrypoint"] == ["sh"]
    made = container_config(config, launch, ImageFacts("aarch64"))
    assert (made["Entrypoint"], made["Cmd"]) == (["/air/bin/aarch64/air-runner"], words[1:])
    of_another_version = dataclasses.replace(launch, machines={"x86_64"})
    assert container_config(config, of_another_version, ImageFacts("aarch64"))["Entrypoint"] == ["sh"]
    native.chmod(0o644)
    assert container_config(config, launch, ImageFacts("aarch64"))["Entrypoint"] == ["sh"]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("link", "leads out"),
        ("..", "leads out"),
        (".air-executor", "lies in the state directory"),
        (".air-executor/jobs/other/workspace", "lies in the state directory"),
        ("into", "lies in the state directory"),
        ("nothing", "there is no"),
        ("/etc", "AIR_DOCKER_ALLOW_MOUNTS"),
        ("/srv/models/below", "AIR_DOCKER_ALLOW_MOUNTS"),
        ("/srv/models/..", "AIR_DOCKER_ALLOW_MOUNTS"),
    ],
)
def test_what_may_not_be_mounted(tmp_path: Path, mount: str, words: str) -> None:
    """Nothing outside the project but what is listed, and nothing of the state directory, whatever links say."""
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "into").symlink_to(".air-executor")
    config, launch = make(tmp_path, options={"mounts": [{"source": mount, "target": "/m"}]})
    config = dataclasses.replace(config, settings=DockerSettings(allow_mounts=("/srv/models",)))
    with pytest.raises(SpawnRejectedError, match=words):
        container_config(config, launch, ImageFacts())


def worktree_of(project: Path, prefix: str = "") -> LaunchWorktree:
    """Return a worktree of a task `count`, in a repository at the project folder."""
    path, repository = f"{project}/.air-executor/worktrees/census-0badcafe/count", f"{project}/.git"
    return LaunchWorktree(path, prefix, repository, f"{repository}/worktrees/count", "air/census/count")


def test_a_worktree_in_place_of_the_project(tmp_path: Path) -> None:
    """The task has its own checkout there, and of the repository what a commit writes; hooks and settings stay ours."""
    options = {"mounts": [{"source": ".", "target": "/project"}]}
    worktree = worktree_of(tmp_path)
    config, launch = make(tmp_path, options=options, worktree=worktree)
    mounts = container_config(config, launch, ImageFacts())["HostConfig"]["Mounts"]
    writable = {one["Target"]: one["Source"] for one in mounts if not one["ReadOnly"]}
    git = worktree.repository
    assert writable == {
        "/air/out": launch.out_dir,
        "/air/workspace": launch.workspace,
        "/project": worktree.path,
        **{
            path: path
            for path in (f"{git}/objects", f"{git}/refs/heads/air/census", f"{git}/logs/refs/heads/air/census")
        },
        worktree.admin: worktree.admin,
    }
    assert [one["Target"] for one in mounts if one["ReadOnly"]] == ["/air/bin", git]
    assert str(tmp_path) not in [one["Source"] for one in mounts]


@pytest.mark.parametrize(("mounted", "prefix"), [(False, ""), (True, "below")])
def test_a_worktree_that_a_container_cannot_have(tmp_path: Path, prefix: str, *, mounted: bool) -> None:
    """Without the project, or where that is no repository's top, the task is told what it needs."""
    options = {"mounts": [{"source": ".", "target": "/project"}]} if mounted else {}
    config, launch = make(tmp_path, options=options, worktree=worktree_of(tmp_path, prefix))
    with pytest.raises(SpawnRejectedError, match="worktree: in a container it needs"):
        container_config(config, launch, ImageFacts())


def test_what_is_mounted_at_tmp_is_seen(tmp_path: Path) -> None:
    """A task that brings its own /tmp gets that, and not an empty one laid over it."""
    (tmp_path / "data").mkdir()
    own, beside = (
        container_config(*make(tmp_path, options={"mounts": [{"source": "data", "target": target}]}), ImageFacts())
        for target in ("/tmp", "/tmp/data")  # noqa: S108 - the container's own
    )
    assert own["HostConfig"]["Tmpfs"] == {}
    assert list(beside["HostConfig"]["Tmpfs"]) == ["/tmp"]  # noqa: S108


def test_an_images_own_volumes_are_limited_as_its_tmp(tmp_path: Path) -> None:
    """The engine would make them folders on its disk, without a limit; what the task mounts there goes first."""
    (tmp_path / "data").mkdir()
    options = {"mounts": [{"source": "data", "target": "/cache"}]}
    config, launch = make(tmp_path, options=options)
    image = ImageFacts(volumes=("/cache/", "/srv/data", "/tmp"))  # noqa: S108 - the container's own
    mounts = container_config(config, launch, image)["HostConfig"]["Mounts"]
    assert [one for one in mounts if one["Type"] == "tmpfs"] == [
        {
            "Type": "tmpfs",
            "Target": "/srv/data",
            "TmpfsOptions": {"SizeBytes": config.settings.tmp_size, "Mode": 0o1777},
        }
    ]
    open_config = dataclasses.replace(config, settings=DockerSettings(read_only=False))
    assert all(one["Type"] == "bind" for one in container_config(open_config, launch, image)["HostConfig"]["Mounts"])
    assert requested(mounts).sources == {str(tmp_path / "data")}
    reported = [{"Type": "volume", "Name": "0c" * 32, "Destination": "/srv/data", "RW": False}]
    assert mounted(reported) == MountSet()


def test_a_secret_that_json_cannot_carry_reaches_the_task_unchanged(tmp_path: Path) -> None:
    """A shell turns it back into its bytes, line ends included, and its arguments do not show it."""
    value = b"k\xff\xfe\\ y\n\n"
    secrets = {"KEY": value.decode("utf-8", "surrogateescape"), "PLAIN": "text"}
    _, launch = make(tmp_path, argv=("python3", "-c", "import os; print(os.environb[b'KEY'])"), secrets=secrets)
    carried = carry_bytes(launch)
    assert carried.secrets["PLAIN"] == "text"
    done = subprocess.run(
        carried.argv, env={**os.environ, **carried.secrets}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{value!r}\n"
    assert "377" not in " ".join(carried.argv)
    assert carry_bytes(dataclasses.replace(launch, secrets={"PLAIN": "text"})).argv == launch.argv


def test_networks(tmp_path: Path) -> None:
    """A task gets the common network, none, or one that is listed; the host's it gets only if that is listed."""
    config, launch = make(tmp_path)
    config = dataclasses.replace(config, settings=DockerSettings(network="ours", allow_networks=("db",)))

    def network(name: str | None) -> str:
        options = {} if name is None else {"network": name}
        made = container_config(config, dataclasses.replace(launch, options=options), ImageFacts())
        return str(made["HostConfig"]["NetworkMode"])

    assert [network(name) for name in (None, "default", "none", "ours", "db")] == ["ours", "ours", "none", "ours", "db"]
    for name in ("host", "bridge", "container:abc", "other"):
        with pytest.raises(SpawnRejectedError, match="AIR_DOCKER_ALLOW_NETWORKS"):
            network(name)


def test_the_managers_own_mounts(tmp_path: Path) -> None:
    """In a container the manager names what the host calls its folders; the longest mount that holds a path counts."""
    mapping = PathMapping((("/project/.air-executor", "volume", "state"), ("/project", "bind", "/home/me/project")))
    assert mapping.mount("/project/data", "/data") == {
        "Type": "bind",
        "Source": "/home/me/project/data",
        "Target": "/data",
        "ReadOnly": False,
    }
    assert mapping.mount("/project/.air-executor/bin", "/air/bin", read_only=True) == {
        "Type": "volume",
        "Source": "state",
        "Target": "/air/bin",
        "ReadOnly": True,
        "VolumeOptions": {"NoCopy": True, "Subpath": "bin"},
    }
    assert mapping.describe("/project/.air-executor/jobs") == "state:jobs"
    with pytest.raises(BadInputError, match="lies in the manager's own container"):
        mapping.mount("/projects", "/data")
