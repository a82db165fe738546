# ruff: noqa: D102 - see `Rig`
"""A rig for Jobs whose pods see no volume: their runs' files come and go over HTTP.

Tasks of the contract signal live through their workspace, which such pods do not share. So here they do it through a
folder that the operator has mounted into all pods, as an operator may.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

from air_executor import wiring
from air_executor.backends.base import Backend, Launch
from air_executor.backends.kubernetes import KubernetesBackend
from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend
from air_executor.core.submission import initial_state, parse_job
from air_executor.model.names import Slot
from air_executor.settings import KubernetesSettings, Settings
from air_executor.store.jobs import Jobs
from air_executor.store.service_logs import keeper_of
from tests.backends.rig import KubernetesRig, Task, spawn_and_kill
from tests.cluster import CLAIM, address_for_pods, free_port, require_runner_image

SIGNALS = "/signals"


class OverHttpRig(KubernetesRig):
    """Jobs of a real cluster, and the port of a manager."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, require_runner_image())
        self._signals = root / "signals"
        self._signals.mkdir()
        self._signals.chmod(0o777)
        template = root / "pod.json"
        mount = {"name": "signals", "mountPath": SIGNALS, "subPath": f"{root.name}/signals"}
        volume = {"name": "signals", "persistentVolumeClaim": {"claimName": CLAIM}}
        spec = {"volumes": [volume], "containers": [{"name": "task", "volumeMounts": [mount]}]}
        template.write_text(json.dumps({"spec": spec}), encoding="ascii")
        host = address_for_pods(self.namespace)
        self._parts = [
            self.layout.root,
            self.namespace.name,
            str(self.settings.runner_image),
            f"http://{host}:{free_port(host)}",
            str(template),
        ]
        self.settings = over_http_settings(*self._parts)
        for name, content in wiring.runner_files().items():
            path = Path(self.layout.bin, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755)
        self._jobs = Jobs(self.layout)
        self._jobs.prepare()
        self._serving = contextlib.ExitStack()
        service = wiring.make_service(self.settings)
        assert service is not None
        self._serving.enter_context(service.server)
        self._next: Backend | None = None

    def kubernetes(self, **settings: Any) -> KubernetesBackend:  # noqa: ANN401 - see above
        whole = self.settings.model_copy(update={"kubernetes": self.settings.kubernetes.model_copy(update=settings)})
        tokens = wiring.run_tokens(self.layout)
        backend = make_kubernetes_backend(whole, "0", keeper_of(self.layout), make_token=tokens)
        self._made.append(backend)
        return backend

    def launch(self, slot: Slot, seq: int, task: Task) -> Launch:
        if slot.job not in self._jobs.ids():
            tasks = [{"id": "t", "command": "true"}]
            state = initial_state(parse_job({"id": slot.job, "tasks": tasks}), uid="0badcafe", now=1.8e9)
            self._jobs.create(state)
        made = super().launch(slot, seq, task)
        return dataclasses.replace(made, argv=(*made.argv[:-1], task.value.replace("$AIR_WORKSPACE", SIGNALS)))

    def release(self, launch: Launch) -> None:
        (self._signals / f"release-{launch.run}").touch()

    def is_ready(self, launch: Launch) -> bool:
        return super().is_ready(dataclasses.replace(launch, workspace=str(self._signals)))

    def step(self) -> None:
        # A pod waits for the token of its run: without a manager that observes, none begins.
        if self._next is None:
            self._next = self.backend()
        self._next.observe()

    def spawn_by_manager_that_is_killed(self, launch: Launch) -> None:
        spawn_and_kill("kubernetes-http", self._parts, launch)

    def close(self) -> None:
        super().close()
        self._serving.close()


def over_http_settings(state_dir: str, namespace: str, image: str, url: str, template: str) -> Settings:
    """Return the settings of a manager of Jobs without a volume."""
    host, _, port = url.removeprefix("http://").partition(":")
    group = KubernetesSettings(
        transport="http",
        transport_url=url,
        namespace=namespace,
        pull="never",
        cpu_request=0.01,
        memory_request=1 << 20,
        pod_template=template,
    )
    return Settings(
        state_dir=state_dir,
        backend="kubernetes",
        runner_image=image,
        kubernetes=group,
        http_host=host,
        http_port=int(port),
    )
