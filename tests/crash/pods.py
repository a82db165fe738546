"""The Jobs and Pods of one trial, in a namespace of their own: found there, whatever the manager and labels say.

The cluster's node must be this machine: what runs in a Pod is also killed from outside, as the kernel would.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from filelock import FileLock

from air_executor.backends.kubernetes.manifests import RUN
from air_executor.errors import AirExecutorError, BackendUnavailableError
from tests.cluster import (
    CLAIM,
    Namespace,
    address_for_pods,
    free_port,
    require_cluster,
    require_image,
    require_runner_image,
)
from tests.crash import daemon, processes
from tests.crash.apigate import ApiGate, Trouble
from tests.crash.driver import Jobs
from tests.crash.small_volume import SmallVolume
from tests.transport.proxy import Proxy
from tests.transport.proxy import Trouble as NetworkTrouble

T = TypeVar("T")

LOOK_FOR = 20.0
"""Seconds that a blow waits for somebody to hit, while there is a pod that has not ended."""
LOOK_AROUND = 3.0
"""Seconds that it waits for such a pod."""
STOPPING = 5.0
"""Seconds that a daemon of the cluster has to stop: an API server that is told to waits a minute for its watches."""
KIT, MARKS = "/kit", "/marks"
"""Where tasks find their script, and where they mark what they do if they share no workspace."""
NETWORK: Mapping[str, NetworkTrouble] = {
    "drop": NetworkTrouble(share=0.7, most=3000, delay=0.01),
    "cutoff": NetworkTrouble(refuse=True),
}
"""What can be brought upon the network between pods and manager, until `relent`."""

TROUBLES: Mapping[str, Trouble] = {
    "slow": Trouble(latency=1.5),
    "busy": Trouble(statuses=(429,), share=0.7),
    "error": Trouble(statuses=(500, 503), share=0.7),
    "swallow": Trouble(swallow=True, share=0.5),
    "cut": Trouble(cut=True),
    "mute": Trouble(mute=True),
    "expire": Trouble(expire=True),
}
"""What the gate can bring upon a manager until `relent`."""
_LIVE = frozenset({"Pending", "Running", "Unknown"})
"""Phases of a pod in which something runs, or may yet."""


class Pods:
    """The runners of one trial: see `tests.crash.platform.Platform`."""

    def __init__(self, project: str, seed: int, *, over_http: bool = False) -> None:
        self._restarting = FileLock(f"{os.path.dirname(project)}/cluster.lock")
        os.makedirs(f"{project}/kit", exist_ok=True)
        with self._restarting:  # another trial may be at it
            require_cluster()
            self.space = Namespace(project)
        self._gate = ApiGate(seed=seed)
        self._gate.write_config(f"{project}/kubeconfig")
        # Tasks cannot name the claim of the state directory; a folder of the node is the operator's to mount.
        volume, mount = {"name": "kit", "hostPath": {"path": f"{project}/kit"}}, {"name": "kit", "mountPath": KIT}
        volumes, mounts = [volume], [{**mount, "readOnly": True}]
        self._network: Proxy | None = None
        self._volume = SmallVolume(f"{project}/.air-executor") if over_http else None
        if over_http:
            os.makedirs(f"{project}/marks", exist_ok=True)
            os.chmod(f"{project}/marks", 0o777)  # noqa: S103 - tasks are not root
            volumes.append({"name": "marks", "hostPath": {"path": f"{project}/marks"}})
            mounts.append({"name": "marks", "mountPath": MARKS})
        spec = {"volumes": volumes, "containers": [{"name": "task", "volumeMounts": mounts}]}
        with open(f"{project}/pod.yaml", "w", encoding="utf-8") as file:
            json.dump({"spec": spec}, file)
        image = require_runner_image() if over_http else require_image()
        self.access = Jobs(
            f"{project}/kubeconfig", self.space.name, CLAIM, ".air-executor", image, f"{project}/pod.yaml"
        )
        if over_http:
            host = address_for_pods(self.space)
            port = free_port(host)
            self._network = Proxy(port, seed, host)
            self.access = replace(self.access, url=f"http://{host}:{self._network.port}", port=port)

    def left(self) -> list[str]:
        """Return what is there, ended or not, unless the cluster is about to clear it away and nothing of it runs."""
        return [f"{one['metadata']['name']} {one.get('status')}" for one in self._remaining()]

    def lingering(self) -> bool:
        """Tell whether something has ended or is to end, but is not being cleared away yet."""
        time.sleep(0.2)  # each look costs the server two lists
        found = self._remaining()
        return any("deletionTimestamp" in one["metadata"] or not _is_running(one) for one in found)

    def strike(self, target: str, choice: float) -> str | None:
        """Do harm to a runner that runs, or begin an interruption that `relent` ends.

        To a runner: kill its first process (`runner`), all others of it (`inside`) or its carrier (`carrier`), delete
        its pod (`pod`) or its Job (`job`). An interruption: one of `TROUBLES` or, between pods and manager, `NETWORK`,
        no answers (`silence`), broken connections (`break`), or a restart of the API server or of its storage, for all
        who use them (`apiserver`, `etcd`), or no space on the manager's volume (`full`).
        """
        self.relent()
        if target == "full":
            return target if self._volume is not None and self._volume.fill() else None
        if target in NETWORK:
            assert self._network is not None
            self._network.bring(NETWORK[target])
        elif target in TROUBLES:
            self._gate.bring(TROUBLES[target])
        elif target == "silence":
            self._gate.shut()
        elif target == "break":
            self._gate.slam()
        elif target in {"apiserver", "etcd"}:
            with self._restarting:
                self._restart(target, kill=choice < 0.5)
        else:
            return self._hurt(target, choice)
        return target

    def relent(self) -> None:
        """Answer again."""
        self._gate.relent()
        if self._volume is not None:
            self._volume.relent()
        if self._network is not None:
            self._network.bring(NetworkTrouble())

    def clear(self) -> None:
        """Remove whatever is left."""
        self._patiently(self.space.clear)

    def close(self) -> None:
        """Let go of the cluster."""
        self._gate.close()
        if self._volume is not None:
            self._volume.close()
        if self._network is not None:
            self._network.close()
        self._patiently(self.space.close)

    def _remaining(self) -> list[dict[str, Any]]:
        """Return the Jobs and pods that the cluster has not been told to clear away, or of which something may run.

        An ended pod whose Job is gone is the cluster's to clear away; one that belongs to no Job is nobody's.
        """
        pods = self._patiently(self.space.pods)
        jobs = self._patiently(self.space.jobs)
        secrets = self._patiently(self.space.secrets)
        there = {job["metadata"]["uid"] for job in jobs}
        return [one for one in [*jobs, *pods, *secrets] if not (_has_ended(one) and _is_given_up(one, there))]

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer: another trial may be restarting the server."""
        until = time.monotonic() + daemon.PATIENCE
        while True:
            try:
                return ask()
            except BackendUnavailableError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _await(self, is_fit: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
        """Return the pods that are fit for a blow, once one is."""
        begun = last = time.monotonic()
        while True:
            now = time.monotonic()
            pods = [pod for pod in self._patiently(self.space.pods) if pod["status"].get("phase") in _LIVE]
            fit = [pod for pod in pods if is_fit(pod)]
            last = now if pods else last
            if fit or now - begun > LOOK_FOR or now - last > LOOK_AROUND:
                return sorted(fit, key=lambda pod: str(pod["metadata"]["uid"]))
            time.sleep(0.05)

    def _hurt(self, target: str, choice: float) -> str | None:
        # The cluster is late to say that something runs. To delete before it does is of little use: a kubelet of 1.20
        # may miss the deletion of a pod that it is about to start, and looks again after a minute or more.
        is_fit = _processes(target) if target in {"runner", "inside", "carrier"} else _is_running
        fit = self._await(is_fit)
        if not fit:
            return None
        victim = fit[int(choice * len(fit))]
        how = int(choice * 1000) % 2  # another digit of the same number: independent of who it is
        name, run = victim["metadata"]["name"], victim["metadata"]["labels"][RUN]
        try:
            match target:
                case "pod":
                    body = {"gracePeriodSeconds": 0} if how else {}
                    self.space.ask("DELETE", f"{self.space.core}/pods/{name}", body)
                case "job":
                    job = f"/apis/batch/v1/namespaces/{self.space.name}/jobs/{name.rpartition('-')[0]}"
                    policy = "Foreground" if how else "Background"
                    self.space.ask("DELETE", job, {"propagationPolicy": policy})
                case _:
                    for one in _processes(target)(victim):
                        processes.kill_one(one)
        except AirExecutorError:  # it has ended meanwhile, or the server is being restarted by another trial
            return None
        return f"{target} {name} {run} {'at once, or in the foreground' if how else ''}".rstrip()

    def _restart(self, target: str, *, kill: bool) -> None:
        """Restart a daemon of the cluster, which is found by the port that it listens on."""
        port = urlsplit(self.space.api.server).port
        assert port is not None
        server = daemon.listener_on(port)
        pid = server if target == "apiserver" else daemon.listener_on(_port_of_storage(server))
        daemon.respawn(pid, kill=kill, patience=STOPPING)
        daemon.await_answer(self._is_ready, "the API server")

    def _is_ready(self) -> bool:
        """Tell whether the server has begun all that it is for: one that loses its storage before that leaves."""
        try:
            return self.space.api.send("GET", "/readyz", None, None, "*/*", 5).status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False


def _processes(target: str) -> Callable[[Mapping[str, Any]], list[processes.Found]]:
    """Return what finds in a pod its carrier, its runner's first process (`runner`), or all others of its run."""

    def find(pod: Mapping[str, Any]) -> list[processes.Found]:
        if target == "carrier":
            return processes.of_pod(pod["metadata"]["uid"])
        found = processes.of_run(pod["metadata"]["labels"][RUN])
        return [one for one in found if one.is_runner == (target == "runner")]

    return find


def _has_ended(found: Mapping[str, Any]) -> bool:
    """Tell whether nothing of a Job or a pod runs or will run."""
    status = found.get("status") or {}
    states = [one["state"] for one in status.get("containerStatuses") or ()]
    return (not status.get("active") and status.get("phase") not in _LIVE) or any("terminated" in one for one in states)


def _is_given_up(found: Mapping[str, Any], jobs: set[str]) -> bool:
    """Tell whether the cluster has been told to clear away a Job or a pod, or the Job that the pod belongs to."""
    owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences", ())}
    return "deletionTimestamp" in found["metadata"] or (bool(owners) and not owners & jobs)


def _is_running(found: Mapping[str, Any]) -> bool:
    """Tell whether a Job has a pod that has not ended, or a pod a container that runs."""
    status = found.get("status") or {}
    containers = status.get("containerStatuses")
    if containers is None:
        return bool(status.get("active"))
    return any("running" in one["state"] for one in containers)


def _port_of_storage(server: int) -> int:
    """Return the port of etcd, which an API server is told in its command line."""
    with open(f"/proc/{server}/cmdline", encoding="utf-8") as file:
        words = file.read().split("\0")
    (address,) = [word.partition("=")[2] for word in words if word.startswith("--etcd-servers=")]
    port = urlsplit(address).port
    assert port is not None
    return port
