"""Whom the manager's image becomes, and what it hands over to them, with as few rights as the compose file gives it."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.engine import container, output
from tests.images.rig import NOBODY, as_root, docker, hardened, image, require_client

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

WHO = 'echo "$(id -u):$(id -g) $(id -G)"; grep -E "^Cap(Eff|Prm|Amb)" /proc/self/status'
POWERLESS = {"0" * 16}


class Folder:
    """A project folder whose files may be anybody's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        self.state = path / ".air-executor"

    def give(self, owner: str) -> None:
        """Make the folder, with all that is in it, somebody's."""
        as_root(self.path, "chown", "--recursive", "--no-dereference", owner, str(self.path))

    def make_state(self) -> None:
        """Make the state directory as the engine does: root's."""
        as_root(self.path, "install", "-d", "-o", "0", "-g", "0", str(self.state))

    def run(self, *words: str, state: str | None = None, fails: bool = False, **options: Any) -> str:  # noqa: ANN401
        """Start the manager's image on this folder; options are those of `container`."""
        volumes = {"/project:ro": str(self.path), "/project/.air-executor": state or str(self.state)}
        volumes |= options.pop("volumes", {})
        return output(hardened("manager", *words, volumes=volumes, **options), fails=fails)

    def who(self, **options: Any) -> tuple[str, set[str]]:  # noqa: ANN401 - as for `run`
        """Return who a program in the image is (user:group, groups), and its sets of capabilities."""
        first, *capabilities = self.run("/bin/sh", "-c", WHO, **options).splitlines()
        return first, {line.split()[1] for line in capabilities}

    def owners(self) -> set[str]:
        """Return whose the state directory and all below it is."""
        return set(as_root(self.path, "find", str(self.state), "-printf", "%U:%G\n").split())


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ("ro,uid=65532", "the volume is read-only: mount it writable"),
        ("uid=65532,size=4k", "the volume is full: free space there"),
        ("uid=0,mode=755", "(this is uid 65532; /project/.air-executor belongs to uid 0)"),
    ],
)
def test_a_volume_that_takes_no_job(options: str, cause: str) -> None:
    """The manager's one line names the cause, and it exits before it takes a job."""
    require_client()
    nobody = f"{NOBODY[0]}:{NOBODY[1]}"
    made = container(image("manager"), "manager", user=nobody).with_tmpfs_mount("/project/.air-executor", options)
    (line,) = output(made, fails=True).splitlines()
    assert line.startswith("error: cannot ")
    assert line.endswith(cause)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty project folder, where containers can be had."""
    require_client()
    return Folder(tmp_path / "project")


def test_it_becomes_the_folders_owner(folder: Folder) -> None:
    """Without a capability left, and in no group of root's."""
    folder.give("1234:2345")
    folder.make_state()
    assert folder.who() == ("1234:2345 2345", POWERLESS)


def test_it_never_stays_root(folder: Folder) -> None:
    """A folder of root's is managed by the configured user, and a group of root's is left too."""
    folder.give("0:0")
    folder.make_state()
    assert folder.who()[0].startswith("{}:{} ".format(*NOBODY))
    assert folder.who(env={"AIR_DOCKER_USER": "77:78"})[0].startswith("77:78 ")
    assert folder.who(env={"AIR_DOCKER_USER": "77"})[0].startswith("77:77 ")
    folder.give("1234:0")
    assert folder.who() == (f"1234:{NOBODY[1]} {NOBODY[1]}", POWERLESS)


@pytest.mark.parametrize("user", ["0", "0:0", "5:0", "root", "5:6:7", "-1", " "])
def test_a_user_that_is_none(folder: Folder, user: str) -> None:
    """One line says what is wrong, and nothing is started."""
    folder.give("0:0")
    complaint = folder.run("status", env={"AIR_DOCKER_USER": user}, fails=True)
    assert (
        complaint
        == f"air-entrypoint: AIR_DOCKER_USER: {user!r} is not a user; use numbers other than 0, like 65532:65532"
    )


def test_started_as_somebody_it_changes_nothing(folder: Folder) -> None:
    """`user:` in a compose file, or a cluster that allows no root: no identity is changed, and none is needed."""
    folder.give("1234:2345")
    folder.make_state()
    assert folder.who(user="1234:2345", cap_add=["SETUID", "SETGID"]) == ("1234:2345 2345", POWERLESS)
    assert folder.owners() == {"0:0"}


def test_what_the_engine_has_just_made_is_handed_over(folder: Folder) -> None:
    """The first `docker compose up` in a fresh clone, even in a folder that is open to its owner alone."""
    folder.give("1234:2345")
    folder.make_state()
    as_root(folder.path, "chmod", "700", str(folder.path))
    folder.run("submit", "j", "--", "true")
    assert folder.owners() == {"1234:2345"}


def test_everything_below_is_handed_over_and_nothing_else(folder: Folder) -> None:
    """Files that only their owner may read too; what a link points to stays whose it is."""
    folder.make_state()
    script = (
        "mkdir -p deep/er; echo x >deep/er/file; chmod -R 700 deep; ln -s ../../outside deep/link; chown -R 99:99 deep;"
        "chmod 700 .; chown 99:99 .; cd ..; mkdir outside; chmod 755 outside"
    )
    as_root(folder.path, "sh", "-ec", f"chown 1234:2345 {folder.path}; cd {folder.state}; {script}")
    folder.run("status")
    assert as_root(folder.path, "stat", "-c", "%u:%g", f"{folder.path}/outside") == "0:0"
    as_root(folder.path, "rm", f"{folder.state}/deep/link")
    assert folder.owners() == {"1234:2345"}


def test_what_root_has_left_there_is_handed_over(folder: Folder) -> None:
    """A state directory that is mostly the owner's: root's manager has left its lock, and a job."""
    folder.give("1234:2345")
    folder.make_state()
    folder.run("submit", "j", "--", "true")
    lock = f"{folder.state}/manager.lock"
    as_root(folder.path, "sh", "-ec", f"umask 77; touch {lock}; cd {folder.state}/jobs; mkdir k; cp j/state.json k")
    assert folder.owners() == {"0:0", "1234:2345"}
    folder.run("status")
    assert folder.owners() == {"1234:2345"}


def test_what_root_submits_belongs_to_the_owner(folder: Folder) -> None:
    """Root of the host works on a folder whose manager is no root: the job and the requests are the manager's."""
    folder.give("1234:2345")
    folder.make_state()
    folder.run("submit", "first", "--", "true")
    for words in (("submit", "j", "--", "true"), ("cancel", "j")):
        volumes = {"/project": str(folder.path)}
        output(container(image("manager"), *words, entrypoint="air-executor", volumes=volumes))
    assert as_root(folder.path, "find", f"{folder.state}/jobs", f"{folder.state}/inbox", "-user", "0") == ""


def test_a_named_volume(folder: Folder) -> None:
    """A new volume is root's; the folder's owner gets it."""
    folder.give("1234:2345")
    folder.make_state()
    name = f"airtest{uuid.uuid4().hex[:8]}"
    try:
        folder.run("submit", "j", "--", "true", state=name)
        assert "j" in folder.run("status", state=name)
        find = ("/v", "-printf", "%U\n")
        owners = output(container(image("runner"), *find, entrypoint="find", volumes={"/v": name}))
        assert set(owners.split()) == {"1234"}
    finally:
        docker("volume", "rm", name)


def test_the_sockets_group_comes_along(folder: Folder) -> None:
    """Whatever its number is on this host."""
    folder.give("1234:2345")
    folder.make_state()
    place = folder.path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        as_root(folder.path, "chown", "0:4242", str(place))
        volumes = {"/var/run/docker.sock": str(place)}
        assert folder.who(volumes=volumes) == ("1234:2345 2345 4242", POWERLESS)
        assert folder.who(volumes=volumes, env={"DOCKER_HOST": "tcp://proxy:2375"})[0] == "1234:2345 2345"
