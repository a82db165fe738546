"""What a task could send with the token of its run: nothing of it leaves the run, and nothing stops the manager."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from air_executor.backends.base import Launch
from air_executor.store.run_files import CHANGES, MAX_QUEUE
from air_executor.web.transport.run_routes import MAX_PIECE
from tests.transport.rig import LIMIT, Said, Site, entries

pytestmark = pytest.mark.transport

FILE = {"kind": "file", "path": "file", "size": 0, "changed": 0, "executable": False}
DEEP = b"[" * 60_000


class Caller:
    """Somebody with a run's token, who has claimed it."""

    def __init__(self, site: Site, launch: Launch) -> None:
        self.site = site
        self.launch = launch
        self.headers = {"Authorization": f"Bearer {site.token(launch)}", "Air_Holder": "pod"}
        assert self.ask("POST", "claim").status == 204

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Said:
        """Make a request."""
        return self.site.ask(method, path, body, **{**self.headers, **headers})

    def send(self, *found: Mapping[str, object]) -> Said:
        """Send changes of the workspace."""
        return self.apply(entries(*found))

    def apply(self, changes: bytes) -> Said:
        """Send what is to be changes of the workspace, anew."""
        sent = Path(self.launch.out_dir, CHANGES)
        for offset in range(0, len(changes), MAX_PIECE):
            answer = self.ask("PATCH", f"files/{CHANGES}?offset={offset}", changes[offset : offset + MAX_PIECE])
            assert answer.status == 200, answer
        answer = self.ask("POST", "workspace")
        sent.unlink(missing_ok=True)  # as the outcome does
        return answer


@pytest.fixture
def caller(site: Site) -> Caller:
    """Return the holder of a run, whose workspace has a file, a folder and links, one of them out of it."""
    launch = site.begin()
    top = site.workspace(launch)
    (top / "there").write_text("before")
    (top / "folder").mkdir()
    (site.folder / "outside").mkdir()
    (site.folder / "outside/secret").write_text("secret")
    (top / "out").symlink_to(site.folder / "outside")
    (top / "file-out").symlink_to(site.folder / "outside/secret")
    return Caller(site, launch)


def tree(top: Path) -> dict[str, object]:
    """Return all that is in a folder."""
    found: dict[str, object] = {}
    for folder, _, names in os.walk(top):
        for name in (*names, "."):
            path = Path(folder, name)
            found[str(path)] = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
    return found


OUT = ["../x", "/etc/x", "a/../../x", "a//b", "./x", "n" * 256, "a/" * 64 + "a", "nul\0x", "\ud800"]
NOT_THERE = ["out/x", "out/secret", "there/x"]
ITSELF = ["", "."]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "removed"])
def test_no_path_leads_out(caller: Caller, kind: str) -> None:
    """A path that leads out, through a link or through a file changes nothing; what is in the way stays."""
    before = tree(caller.site.folder)
    fine = {"folder": {"folder", *ITSELF}, "removed": {*NOT_THERE}}.get(kind, set())
    paths = [*OUT, *NOT_THERE, *ITSELF, *(["folder"] if kind != "removed" else [])]
    answers = {path: caller.send({**FILE, "kind": kind, "path": path, "target": "x"}).status for path in paths}
    assert answers == {path: 204 if path in fine else 422 for path in paths}
    assert tree(caller.site.folder) == before


def test_links_are_replaced_and_never_followed(caller: Caller) -> None:
    """A file in the place of a link, and a removed link, leave alone what it leads to."""
    assert caller.send({**FILE, "path": "file-out"}, {"kind": "removed", "path": "out"}).status == 204
    top = caller.site.workspace(caller.launch)
    assert sorted(os.listdir(top)) == ["file-out", "folder", "there"]
    assert not (top / "file-out").is_symlink()
    assert (caller.site.folder / "outside/secret").read_text() == "secret"


BROKEN = [
    b"",
    b"garbage",
    os.urandom(100_000),
    b"\x1f\x8b\x08\x00",
    b"ustar\0" * 1000,
    b"{}\n" * 10,
    b"null\n",
    DEEP + b"\n",
    b'{"kind": "file", "path": "' + b"a" * 200_000,
    entries({**FILE, "size": 10}, end=False) + b"short",
    entries(FILE, end=False),
    entries({**FILE, "size": -1}),
    entries({**FILE, "size": 1 << 70}),
    entries({**FILE, "size": 1.5}),
    entries({**FILE, "size": "1"}),
    entries({**FILE, "changed": None}),
    entries({"kind": "device", "path": "x"}),
    entries({"kind": ["file"], "path": "x"}),
    entries({"kind": "link", "path": "x", "target": ""}),
    entries({"kind": "link", "path": "x", "target": "a\0b"}),
    entries({"kind": "link", "path": "x", "target": "a" * 5000}),
    entries({"kind": "link", "path": "x", "target": "\ud800"}),
]


def test_what_is_no_stream(caller: Caller) -> None:
    """It is refused for ever, so that the run is no success; files that were whole may be there, and no parts."""
    top = Path(caller.launch.workspace)
    for body in BROKEN:
        answer = caller.apply(body)
        assert answer.status == 422, (answer, body[:100])
        assert set(os.listdir(top)) - {"file"} == {"there", "folder", "out", "file-out"}
        assert not (top / "file").exists() or (top / "file").read_bytes() == b""


def test_times_that_no_volume_has(caller: Caller) -> None:
    """They become the nearest that it has."""
    for changed in (-(1 << 80), -1, 1 << 80):
        assert caller.send({**FILE, "changed": changed}).status == 204
        assert os.stat(f"{caller.launch.workspace}/file").st_mtime >= 0


def test_a_long_list_of_what_was_removed(caller: Caller) -> None:
    """It costs time in proportion, and no memory."""
    removed = [{"kind": "removed", "path": f"folder/{number}"} for number in range(20_000)]
    assert caller.send(*removed, {"kind": "removed", "path": "there"}).status == 204
    assert sorted(os.listdir(caller.launch.workspace)) == ["file-out", "folder", "out"]


def test_who_has_no_right_to_a_run(caller: Caller) -> None:
    """Without its token nobody comes in, and without having claimed it nobody reads or writes."""
    site = caller.site
    other = site.begin("other")
    foreign = {"Authorization": f"Bearer {site.token(other)}"}
    requests = [("GET", "inputs"), ("GET", "workspace"), ("POST", "workspace"), ("PATCH", "files/output.log?offset=0")]
    requests += [("PUT", "result"), ("PUT", "outcome?started_ago=1&ended_ago=0")]
    bad: list[dict[str, str]] = [{}, {"Authorization": "Bearer"}, {"Authorization": "Basic eDp5"}]
    bad += [{"Authorization": f"Bearer {caller.site.token(caller.launch)[:-2]}"}, {"Authorization": "Bearer airrun_"}]
    for method, path in [("POST", "claim"), *requests]:
        assert {site.ask(method, path, b"", **one).status for one in bad} == {401}
    for method, path in requests:
        wrong: list[dict[str, str]] = [{"Air_Holder": "another"}, {"Air_Holder": ""}, {"Air_Holder": "pod "}]
        wrong += [{"Air_Holder": "pod\xe9"}, foreign]
        # What a header's value ends with is no part of it: the third is the holder.
        assert [caller.ask(method, path, b"", **one).status == 409 for one in wrong] == [True, True, False, True, True]
    assert caller.ask("POST", "claim", Air_Holder="another").status == 409
    assert caller.ask("POST", "claim").status == 204
    for holder in ("", "a" * 201, "\xe9", "a\tb"):
        assert site.ask("POST", "claim", b"", **foreign, Air_Holder=holder).status == 422
    assert site.out(other, "output.log") == b""


def test_a_run_that_is_superseded(caller: Caller) -> None:
    """Whose directory was moved away by a rewind gets nothing more."""
    shutil.move(caller.launch.out_dir, caller.site.folder / "moved")
    assert {caller.ask("GET", "inputs").status, caller.ask("PUT", "result", b"1").status} == {410}
    assert caller.ask("PATCH", "files/output.log?offset=0", b"x").status == 410


def test_only_what_grows_is_appended_to(caller: Caller) -> None:
    """No other file of the run, and none of others."""
    before = tree(Path(caller.launch.out_dir))
    for name in ("exit.json", "claim", "run.json", "..%2Fstate.json", "%2e%2e", ".", "output.log%00"):
        assert caller.ask("PATCH", f"files/{name}?offset=0", b"x").status in {404, 422}
    for offset in ("", "-1", "x", "1.5", "%D9%A1", "9" * 20):
        assert caller.ask("PATCH", f"files/output.log?offset={offset}", b"x").status == 422
    assert caller.ask("PATCH", "files/output.log", b"x").status == 422
    assert tree(Path(caller.launch.out_dir)) == before


def test_appends_that_come_again(caller: Caller) -> None:
    """What is there is not written twice, parts of it are completed, and nothing is written beyond the end."""

    def append(offset: int, data: bytes, name: str = "output.log") -> int:
        answer = caller.ask("PATCH", f"files/{name}?offset={offset}", data)
        assert answer.status == 200, answer
        return int(answer.body)

    assert append(0, b"abc") == 3
    assert append(0, b"abc") == 3
    assert append(1, b"bcde") == 5
    assert append(5, b"") == 5
    assert append(7, b"beyond") == 5
    assert append((1 << 63) - 1, b"beyond") == 5
    assert append(0, b"") == 5
    assert caller.site.out(caller.launch, "output.log") == b"abcde"
    with open(f"{caller.launch.out_dir}/queue.jsonl", "wb") as file:
        file.truncate(MAX_QUEUE)
    assert append(MAX_QUEUE, b"too much", "queue.jsonl") == MAX_QUEUE + 1
    assert append(MAX_QUEUE + 1, b"more", "queue.jsonl") == MAX_QUEUE + 1


def test_bodies_that_are_too_large(caller: Caller) -> None:
    """They are refused without being held."""
    large = b"x" * (MAX_PIECE + 1)
    for method, path in (
        ("PATCH", "files/output.log?offset=0"),
        ("PUT", "result"),
        ("PUT", "outcome?started_ago=1&ended_ago=0"),
    ):
        assert caller.ask(method, path, large).status == 422
    assert caller.site.out(caller.launch, "output.log") == b""
    answer = caller.ask("PATCH", f"files/{CHANGES}?offset={LIMIT}", b"x")
    assert (answer.status, b"AIR_KUBERNETES_TRANSPORT_SIZE" in answer.body) == (422, True)
    assert not Path(caller.launch.out_dir, CHANGES).exists() or caller.site.out(caller.launch, CHANGES) == b""
    assert caller.ask("PUT", "result", b"1" * 100_000).status == 204
    assert len(caller.site.out(caller.launch, "result.json")) == 16 * 1024 + 1


def test_what_is_no_outcome(caller: Caller) -> None:
    """It is refused, and none is there."""
    for body in (b"", b"\n", b"[]\n", b'"x"\n', b"1\n", b"null\n", b"{", DEEP, b"\xff\n", b"{}" * 40_000):
        assert caller.ask("PUT", "outcome?started_ago=1&ended_ago=0", body).status == 422
        assert caller.site.out(caller.launch, "exit.json") == b""


def test_times_of_an_outcome(caller: Caller) -> None:
    """They must be numbers, and what they say is within the run's own limits."""
    for query in (
        "",
        "started_ago=1",
        "started_ago=nan&ended_ago=0",
        "started_ago=inf&ended_ago=0",
        "started_ago=-1&ended_ago=0",
    ):
        assert caller.ask("PUT", f"outcome?{query}", b'{"exit_code": 0}\n').status == 422
    assert caller.ask("PUT", "outcome?started_ago=9e9&ended_ago=1e9", b'{"exit_code": 0}\n').status == 204
    assert caller.ask("PUT", "outcome?started_ago=1&ended_ago=5", b'{"exit_code": 0}\n').status == 204
    caller.site.commit(caller.launch)
    (attempt,) = caller.site.world.task("job", "a").attempts
    assert attempt.reason == "ok"
    assert 0 <= attempt.work < 3600


def test_a_link_in_the_place_of_a_run_s_file(caller: Caller) -> None:
    """Whoever puts one there does not get the manager to write elsewhere."""
    target = caller.site.folder / "outside/secret"
    path = Path(caller.launch.out_dir, "output.log")
    path.unlink()
    path.symlink_to(target)
    assert caller.ask("PATCH", "files/output.log?offset=0", b"x").status == 503
    assert target.read_text() == "secret"


def test_what_a_pod_fetches_of_a_workspace(caller: Caller) -> None:
    """Links come as links, without what they lead to."""
    (caller.site.folder / "outside/secret").write_text("not to be told")
    found = caller.ask("GET", "workspace")
    assert found.status == 200
    assert b"before" in found.body
    assert str(caller.site.folder / "outside/secret").encode() in found.body
    assert b"not to be told" not in found.body
