"""Declarations of settings: groups, and the settings that commands need which only read state.

Each is declared once, with name, type, default and description; its variable, key and line in the documentation follow
from that. `effective_settings` adds the others and the sources. Does not know what the components do with the values.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from air_executor.core.price import Prices
from air_executor.core.spending_limits import SpendingLimit
from air_executor.model.times import from_text
from air_executor.settings import http_types
from air_executor.settings import setting_types as t
from air_executor.settings.budget_types import Budgets


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SettingGroup(BaseModel):
    """Settings of one component."""

    # A group is validated as part of all settings; building a validator of its own would cost 10 ms at import.
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class ProxySettings(SettingGroup):
    """A reverse proxy that signs people in, and says in headers who they are. All three, or none."""

    addresses: Annotated[http_types.Networks, t.DefaultText("none")] = Field(
        (), description="Addresses of the reverse proxy that signs people in, like `127.0.0.1,10.42.0.0/16`."
    )
    secret: t.Token | None = Field(
        None,
        description="Secret that the proxy sends as the password of basic authentication, of 20 or more characters.",
    )
    roles: Annotated[http_types.GroupRoles, t.DefaultText("none")] = Field(
        default_factory=dict,
        description="Roles of groups, like `air-admins=admin,*=viewer`; `*` is everybody signed in.",
    )


class CostSettings(SettingGroup):
    """Prices of runners. A run is charged its runner-seconds at the prices in force when it is committed."""

    runner_hour: t.Price = Field(0.0, description="Price per runner-hour.")
    cpu_hour: t.Price = Field(0.0, description="Price per CPU-hour, for the CPUs that a task requests.")
    memory_hour: t.Price = Field(0.0, description="Price per GiB-hour, for the memory that a task requests.")
    gpu_hour: t.Price = Field(0.0, description="Price per GPU-hour, for the GPUs that a task requests.")
    currency: t.Currency = Field("USD", description="Currency of the prices, stored with each run.")
    valid_from: Annotated[t.Day | None, t.DefaultText("always")] = Field(
        None, description="First day (UTC) of the prices; runs started earlier have no price."
    )
    always_on_workers: Annotated[Annotated[int, *t.whole(1, 1_000_000)] | None, t.DefaultText("`AIR_MAX_RUNNERS`")] = (
        Field(
            None,
            validation_alias=AliasChoices("always_on_workers", "pool"),
            description="Number of always-on workers that metrics compare costs with.",
        )
    )
    backends: Annotated[t.BackendPrices, t.DefaultText("none")] = Field(
        default_factory=dict,
        description="Prices for single backends, like `docker.runner_hour=0.01,kubernetes.cpu_hour=0.05`.",
    )

    file: t.FilePath | None = Field(
        None, description="CSV file with further prices: by day, backend, label of tasks or label of nodes."
    )

    budgets: Annotated[Budgets, t.DefaultText("none")] = Field(
        (), description="Budgets for a day, week or month, like `pool=gpu:500/month,all:80/day+stop`."
    )

    labels: Annotated[t.Names, Field(max_length=5)] = Field(
        (), description="Labels of tasks by whose values a metric divides the cost, such as `team`."
    )

    @property
    def limits(self) -> list[SpendingLimit]:
        """The budgets, in the currency of the prices."""
        return [replace(one, currency=self.currency) for one in self.budgets]

    def prices(self, backend: str) -> Prices:
        """Return the prices of one backend, but those of `file`."""
        hours = {name: self.backends.get(f"{backend}.{name}", getattr(self, name)) for name in t.PRICES}
        start = None if self.valid_from is None else from_text(f"{self.valid_from}T00:00:00Z")
        return Prices(self.currency, **hours, valid_from=start)


class LocalSettings(SettingGroup):
    """Processes of the manager's machine."""

    pids: Annotated[int, *t.whole(16, 4_194_304)] | None = Field(
        None,
        description="Maximum number of processes and threads per task, where cgroups can limit them.",
    )


class TransportSettings(SettingGroup):
    """How the files of a run come to where it runs, and go back; the same for all platforms."""

    variable: ClassVar[str]
    """Prefix of the variables of the group."""

    transport: t.Transport = Field(
        "volume",
        description="Way of a run's files to its runner: `volume`, which it mounts, or `http`, from the manager.",
    )
    transport_url: http_types.PublicUrl | None = Field(
        None, description="Address of the manager's HTTP server for runners, for `http`."
    )
    transport_ca: t.FilePath | None = Field(
        None, description="File with the certificates (PEM) that runners trust at that address, besides their image's."
    )
    transport_size: t.Bytes = Field(
        10 << 30,
        description="Maximum size of what a run changes in its workspace, on Kubernetes of all its files, for `http`.",
    )

    @property
    def carries_runs(self) -> bool:
        """Whether the files of runs come and go over HTTP."""
        return self.transport == "http"


class DockerSettings(TransportSettings):
    """Containers. The engine is the one that `DOCKER_HOST` names, as for every Docker client."""

    variable = "AIR_DOCKER"

    pull: t.PullPolicy = Field("missing", description="Pull policy for task images: `missing`, `always` or `never`.")
    pull_deadline: t.Seconds = Field(600.0, description="Time limit for pulling an image.")
    timeout: t.Seconds = Field(30.0, description="Time limit for one request to the engine.")
    user: t.UserAndGroup = Field((65532, 65532), description="UID:GID for tasks when root owns the state directory.")
    network: t.Identifier = Field("air-executor", description="Default network for tasks, created if missing.")
    allow_networks: t.Names = Field((), description="Additional networks that tasks may use.")
    allow_mounts: t.Names = Field(
        (),
        description="Directories outside the project that tasks may mount, as absolute paths on the engine's host.",
    )
    memory: t.Bytes = Field(2 << 30, description="Default memory limit.")
    cpus: Annotated[t.Cpus | None, t.DefaultText("no limit")] = Field(None, description="Default CPU limit.")
    pids: Annotated[int, *t.whole(16, 4_194_304)] = Field(
        1024, description="Maximum number of processes and threads per task."
    )
    tmp_size: t.Bytes = Field(256 << 20, description="Size of a task's `/tmp`, which is held in memory.")
    read_only: t.Switch = Field(default=True, description="Read-only root file system for tasks.")


class KubernetesSettings(TransportSettings):
    """Kubernetes Jobs. The cluster is the one of the manager's own pod, or else that of `KUBECONFIG`."""

    variable = "AIR_KUBERNETES"

    claim: t.ObjectName | None = Field(None, description="PersistentVolumeClaim that holds the state directory.")
    sub_path: Annotated[t.InnerPath, t.DefaultText("the volume's root")] = Field(
        "", description="Path of the state directory within the volume."
    )
    namespace: Annotated[t.ObjectName | None, t.DefaultText("the manager's own, or that of the context")] = Field(
        None, description="Namespace for runners."
    )
    lease: t.Switch = Field(
        default=False, description="Leader election by a Lease instead of a lock file, with standby managers."
    )
    owner: t.ObjectName | None = Field(None, description="Deployment that owns the Jobs; deleting it deletes them.")
    service_account: t.ObjectName | None = Field(
        None, description="Service account for runner pods; its token is not mounted."
    )
    user: t.UserAndGroup = Field((65532, 65532), description="UID:GID for tasks when root owns the state directory.")
    secret: t.ObjectName | None = Field(None, description="Secret whose keys are the secrets that tasks may use.")
    pod_template: t.FilePath | None = Field(
        None, description="YAML file with pod `metadata` and `spec`, a strategic merge patch for every runner pod."
    )
    copy_runner: t.Switch = Field(
        default=False,
        description="Init container that copies the runner for the node's architecture, for images without a shell.",
    )
    allow_claims: t.Names = Field((), description="Additional volume claims that tasks may mount.")
    allow_config_maps: t.Names = Field((), description="ConfigMaps that tasks may mount.")
    allow_secret_files: t.Names = Field((), description="Secrets that tasks may mount as files.")
    allow_scratch: t.Bytes = Field(0, description="Maximum size of a task's folders on the disk of its node; 0: none.")
    allow_networks: t.Names = Field(
        (), description="Networks that tasks may use; NetworkPolicies select them by label."
    )
    allow_node_labels: t.Names = Field((), description="Node labels that tasks may select nodes by.")
    allow_tolerations: t.Names = Field((), description="Keys of taints that tasks may tolerate.")
    allow_service_accounts: t.Names = Field(
        (), description="Service accounts that tasks may name; their tokens are mounted."
    )
    allow_secrets: t.Names = Field(
        (), description="Secrets that tasks may name for their `secrets`: `NAME` with all its keys, or `NAME/KEY`."
    )
    allow_priority_classes: t.Names = Field((), description="Priority classes that tasks may name.")
    allow_labels: t.Names = Field((), description="Labels that tasks may set on their Jobs and pods.")
    allow_annotations: t.Names = Field((), description="Annotations that tasks may set on their Jobs and pods.")
    pull: t.PullPolicy = Field("missing", description="Pull policy for task images: `missing`, `always` or `never`.")
    schedule_deadline: t.Seconds = Field(600.0, description="Time limit for scheduling a pod to a node.")
    pull_deadline: t.Seconds = Field(
        600.0, description="Time limit for pulling a pod's image and mounting its volumes."
    )
    start_deadline: t.Seconds = Field(
        120.0, description="Time limit for starting a pod after its node reported an error."
    )
    keep_pods: t.PerhapsSeconds = Field(0.0, description="How long ended pods stay, for log shippers.")
    timeout: t.Seconds = Field(30.0, description="Time limit for one request to the API server.")
    rate: t.PerSecond = Field(50.0, description="Maximum number of requests per second to the API server.")
    visibility: t.Seconds = Field(5.0, description="Maximum time until the manager sees a file that a runner wrote.")
    memory: t.Bytes = Field(2 << 30, description="Default memory limit.")
    memory_request: t.Bytes = Field(256 << 20, description="Default memory request.")
    cpus: Annotated[t.Cpus | None, t.DefaultText("no limit")] = Field(None, description="Default CPU limit.")
    cpu_request: t.Cpus = Field(0.1, description="Default CPU request.")
    gpu_resource: t.Text = Field("nvidia.com/gpu", description="Resource name of GPUs in the cluster.")
    tmp_size: t.Bytes = Field(256 << 20, description="Size of a task's `/tmp`, which is held in memory.")
    read_only: t.Switch = Field(default=True, description="Read-only root file system for tasks.")


class ReaderSettings(SettingGroup):
    """Settings for commands that only read state."""

    state_dir: Annotated[t.FilePath, t.DefaultText("`.air-executor` in the project folder")] = Field(
        "", description="State directory."
    )
    backend: t.Identifier = Field("local", description="Backend for runners: `local`, `docker` or `kubernetes`.")
    max_runners: Annotated[int, *t.whole(1, 100_000), t.DefaultText("number of cores")] = Field(
        default_factory=_cores, description="Maximum number of concurrent runners, all jobs together."
    )
    pools: Annotated[t.Limits, t.DefaultText("no limits")] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("pools", "queues"),
        description="Limits of pools, like `gpu=2,ram=64`: maximum sum of the weights that run; others have none.",
    )
