"""An API server in miniature, for what a real one cannot be told to do: break off, fall silent, refuse, ask for pauses.

Serves lists and watches of Jobs and Pods from memory; each test scripts what it does wrong. Counts what it is asked.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from air_executor.backends.kubernetes.manifests import JOB, RUN, SLOT

Answer = tuple[int, Mapping[str, Any], Mapping[str, str]]


class Server:
    """Listens on loopback from the first moment until `stop`."""

    def __init__(self, port: int = 0) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.version = 100
        self.asked: Counter[str] = Counter()
        """By `list jobs`, `watch pods`, `POST`, `DELETE` …"""
        self.events: list[dict[str, Any]] = []
        """What `list events` tells, whatever it is asked of."""
        self.workloads: dict[str, list[dict[str, Any]]] = {}
        """Kueue's, by the uid of their Job."""
        self.logs: dict[str, list[bytes]] = {}
        """By container, what it printed each time that it was started."""
        self.refuse: Callable[[str], Answer | None] = lambda _: None
        """Asked before each request, by the same words."""
        self.policies: list[str | None] = []
        """The propagation policies of deletions."""
        self.since: list[str] = []
        """The versions that watches have begun from."""
        self.streams: list[tuple[str, queue.Queue[bytes | None]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def write_config(self, path: Path) -> None:
        """Write a KUBECONFIG for it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"token": "none"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "here"}}],
            "current-context": "c",
        }
        path.write_text(json.dumps(config))

    def put(self, what: str, found: dict[str, Any], kind: str = "MODIFIED") -> None:
        """Change an object, and tell the watches."""
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        objects = self.jobs if what == "jobs" else self.pods
        if kind == "DELETED":
            objects.pop(found["metadata"]["uid"], None)
        else:
            objects[found["metadata"]["uid"]] = found
        self.tell(what, {"type": kind, "object": found})

    def tell(self, what: str, event: Mapping[str, Any]) -> None:
        """Send one event to the watches of these objects."""
        if what == "jobs" and "spec" in event["object"]:
            event = {**event, "object": metadata(event["object"])}
        for watched, stream in self.streams:
            if watched == what:
                stream.put(json.dumps(event).encode() + b"\n")

    def break_off(self) -> None:
        """End all watches."""
        streams, self.streams = self.streams, []
        for _, stream in streams:
            stream.put(None)

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self.streams)

    def stop(self) -> None:
        """Close; from now on nobody answers."""
        self.break_off()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class with what each request does
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                last = url.path.rpartition("/")[2]
                listed = last in {"jobs", "pods", "events", "workloads"}
                what = f"{'watch' if 'watch' in query else 'list'} {last}" if listed else "GET"
                if "/jobs/" in url.path:
                    what = "read job"
                if self._refused(what):
                    return
                if what == "read job":
                    found = [one for one in server.jobs.values() if one["metadata"]["name"] == last]
                    self._answer(200, found[0]) if found else self._answer(404, status(404, "NotFound"))
                    return
                if last == "log":
                    self._send_log(query["container"], 2 if query.get("previous") == "true" else 1)
                elif last == "kueue.x-k8s.io":
                    self._answer(200, {"preferredVersion": {"groupVersion": f"{last}/v1beta2"}})
                elif what == "list workloads":
                    assert "/v1beta2/" in url.path
                    uid = query["labelSelector"].removeprefix("kueue.x-k8s.io/job-uid=")
                    self._answer(200, {"items": server.workloads.get(uid, [])})
                elif what == "GET":
                    self._answer(200, {"major": "1", "minor": "34+"})
                elif what == "list events":
                    self._answer(200, {"items": server.events})
                elif what.startswith("list"):
                    found = (
                        [metadata(one) for one in server.jobs.values()] if last == "jobs" else [*server.pods.values()]
                    )
                    self._list(found, query)
                else:
                    server.since.append(query["resourceVersion"])
                    self._stream(last)

            def _send_log(self, container: str, back: int) -> None:
                starts = server.logs.get(container, [])
                if len(starts) < back:
                    self._answer(400, status(400, "BadRequest", f'terminated container "{container}" not found'))
                else:
                    self._send(200, starts[-back])

            def do_POST(self) -> None:
                body = self._body()
                if not self._refused("POST"):
                    body["metadata"]["uid"] = f"uid-{body['metadata']['name']}"
                    server.put("jobs", body, "ADDED")
                    self._answer(201, body)

            def do_PATCH(self) -> None:
                labels = self._body()["metadata"]["labels"]
                if not self._refused("PATCH"):
                    name = self.path.rpartition("/")[2]
                    [found] = [one for one in server.pods.values() if one["metadata"]["name"] == name]
                    meta = {**found["metadata"], "labels": {**found["metadata"]["labels"], **labels}}
                    server.put("pods", {**found, "metadata": meta})
                    self._answer(200, found)

            def do_DELETE(self) -> None:
                server.policies.append(self._body().get("propagationPolicy"))
                if not self._refused("DELETE"):
                    self._answer(200, {"kind": "Status", "status": "Success"})

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _body(self) -> dict[str, Any]:
                found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                return found

            def _refused(self, what: str) -> bool:
                server.asked[what] += 1
                answer = server.refuse(what)
                if answer is not None:
                    self._answer(*answer)
                return answer is not None

            def _list(self, found: list[dict[str, Any]], query: Mapping[str, str]) -> None:
                first, limit = int(query.get("continue", "0")), int(query["limit"])
                more = {"continue": str(first + limit)} if len(found) > first + limit else {}
                metadata = {"resourceVersion": str(server.version), **more}
                self._answer(200, {"metadata": metadata, "items": found[first : first + limit]})

            def _stream(self, what: str) -> None:
                stream: queue.Queue[bytes | None] = queue.Queue()
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                server.streams.append((what, stream))
                while (line := stream.get()) is not None:
                    try:
                        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                        self.wfile.flush()
                    except OSError:
                        break
                self.close_connection = True

            def _answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
                self._send(status, json.dumps(body).encode(), headers)

            def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


def metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what we ask for of a Job in lists and watches (`PartialObjectMetadata`)."""
    return {"metadata": found["metadata"]}


def status(code: int, reason: str, words: str = "no") -> dict[str, Any]:
    """Return what the server says when it refuses."""
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": words}


def job(name: str, run: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Return a Job of ours, as its metadata."""
    labels = {JOB: name, RUN: run, SLOT: "0"}
    return {"metadata": {"name": f"air-{name}", "uid": f"uid-{name}-{run}", "labels": labels, **metadata}}


def pod(owner: Mapping[str, Any], phase: str = "Running", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Return a Pod of such a Job; `state` is that of its container, other fields go into its status.

    `containers`: names of those that it has, and `sidecars` too.
    """
    meta = owner["metadata"]
    names, sidecars = fields.pop("containers", ["task"]), fields.pop("sidecars", [])
    state = fields.pop("state", {"running": {}} if phase == "Running" else {})
    return {
        "metadata": {
            "name": f"{meta['name']}-abcde",
            "uid": f"pod-{meta['uid']}",
            "labels": meta["labels"],
            "ownerReferences": [{"uid": meta["uid"], "controller": True}],
            **fields.pop("metadata", {}),
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": name, "image": f"team/{name}:1"} for name in names],
            "initContainers": [{"name": name, "restartPolicy": "Always"} for name in sidecars],
        },
        "status": {"phase": phase, "containerStatuses": [{"name": "task", "image": "i", "state": state}], **fields},
    }
