"""The Role allows what the manager asks of the API server, and nothing else."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from air_executor.backends.kubernetes.api import Api, Propagation, jobs, pods
from tests.helm.chart import NAMESPACE, pick, render

pytestmark = pytest.mark.kubernetes

Right = tuple[str, str, str]
"""API group, resource, verb."""

PATH = re.compile(r"/(?:api/v1|apis/([^/]+)/[^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?(?:/([^/]+))?")
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
FREE = {"/version", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/kueue.x-k8s.io"}
"""What a cluster tells everybody: its version, the versions of its API groups, and what they may do."""


class Recorder:
    """An API server that knows nothing, grants everything, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[Right] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def note(self, method: str, target: str) -> None:
        """Take down one request."""
        parts = urlsplit(target)
        if parts.path in FREE:
            return
        found = PATH.fullmatch(parts.path)
        assert found is not None, target
        group, namespace, resource, name, sub = found.groups()
        assert namespace == NAMESPACE
        verb = VERBS.get(method, "get" if name else "watch" if "watch" in parse_qs(parts.query) else "list")
        self.asked.add((group or "", f"{resource}/{sub}" if sub else resource, verb))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                recorder.note(self.command, self.path)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = {
                    "metadata": {"resourceVersion": "1"},
                    "items": [],
                    "status": {"allowed": True},
                    "major": "1",
                    "minor": "31",
                    "preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta2"},
                }
                body = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the base class

            def log_message(self, *_: Any) -> None:  # noqa: ANN401 - whatever it would say
                return

        return Handler


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Return the server that KUBECONFIG names."""
    made = Recorder()
    entry = {"name": "x", "cluster": {"server": made.url}, "user": {}, "context": {"cluster": "x", "user": "x"}}
    config = {key: [entry] for key in ("clusters", "users", "contexts")} | {"current-context": "x"}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **config}), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    # The library has read the variable when it was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    yield made
    made.server.shutdown()
    made.server.server_close()


def ask_everything(api: Api) -> None:
    """Make every request that the backend can make: a method without a line in here fails the test below."""
    api.version()
    api.is_allowed("", "pods", "list")
    api.create_job({})
    api.read_job("x")
    api.delete_job("x", "uid", Propagation.ORPHAN)
    api.delete_pod("x", "uid")
    api.create_secret({})
    api.patch_pod("x", {})
    api.read_deployment("x")
    api.read_lease("x")
    api.create_lease({})
    api.replace_lease("x", {})
    api.events_of("uid")
    api.workloads_of("uid")
    api.container_log("x", "y")
    for resource in (jobs(NAMESPACE), pods(NAMESPACE)):
        api.list(resource, "a=b")
        with contextlib.suppress(KeyError), api.watch(resource, "a=b", "1", seconds=1, silence=1) as events:
            list(events)


ASKED = {
    "version",
    "is_allowed",
    "create_job",
    "read_job",
    "delete_job",
    "delete_pod",
    "create_secret",
    "patch_pod",
    "read_deployment",
    "read_lease",
    "create_lease",
    "replace_lease",
    "events_of",
    "workloads_of",
    "container_log",
    "list",
    "watch",
}


def test_every_request_is_made_here() -> None:
    """No request of the backend escapes the comparison."""
    public = {name for name in dir(Api) if callable(getattr(Api, name)) and not name.startswith("_")}
    # `air-executor shell` has its user's rights; by `ask` and `send` the others make their requests.
    assert public - {"close", "execute", "ask", "send"} == ASKED


def rights(objects: list[dict[str, Any]]) -> set[Right]:
    """Return what the Role allows."""
    return {
        (group, resource, verb)
        for rule in pick(objects, "Role")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_role_is_what_is_asked_for(helm_program: str, recorder: Recorder) -> None:
    """Each request has its verb in the Role, and each verb its request."""
    api = Api(NAMESPACE, 5, 1000)
    ask_everything(api)
    api.close()
    everything = {"transport.type": "http", "keepPods": "30s", "kueue": True}
    assert recorder.asked == rights(render(helm_program, sets=everything))


def test_narrow_where_names_are_known(helm_program: str) -> None:
    """Of Leases and Deployments only the release's own; of the latter none where runners outlive the release."""
    plain = render(helm_program)
    named = {
        (rule["resources"][0], verb)
        for rule in pick(plain, "Role")["rules"]
        if "resourceNames" in rule
        for verb in rule["verbs"]
    }
    assert named == {("leases", "get"), ("leases", "update"), ("deployments", "get")}
    kept = render(helm_program, sets={"removeRunnersOnUninstall": False})
    assert rights(plain) - rights(kept) == {("apps", "deployments", "get")}
    keeping = render(helm_program, sets={"keepPods": "30s"})
    assert rights(keeping) - rights(plain) == {("", "pods", "patch")}
    queued = render(helm_program, sets={"kueue": True})
    assert rights(queued) - rights(plain) == {("kueue.x-k8s.io", "workloads", "list")}
    env = pick(kept, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "AIR_KUBERNETES_OWNER" not in {variable["name"] for variable in env}
