"""The Job that a launch becomes, compared as a whole, and the operator's template merged over it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.kubernetes import pod_template
from air_executor.backends.kubernetes.manifests import DELIVER_WITHIN, ClusterConfig, job_manifest, labeled_run
from air_executor.errors import BadInputError, SpawnRejectedError
from air_executor.model.names import Slot, platform_name
from air_executor.settings import KubernetesSettings

OLD, TODAY = (1, 20), (1, 34)
SETTINGS = KubernetesSettings(claim="state", sub_path="team/a")
CONFIG = ClusterConfig(
    state_dir="/state",
    location="prod/state/team/a",
    prefix="air",
    version="0.1",
    image="python:3.12-slim",
    user=(1000, 1000),
    namespace="prod",
    settings=SETTINGS,
)
LAUNCH = Launch(
    slot=Slot("census", 0),
    uid="0badcafe",
    run="0badcafe-7",
    task="count",
    argv=("sh", "-c", "echo $$ $(date)"),
    env={"AIR_JOB_ID": "census", "PRICE": "5$"},
    out_dir="/state/jobs/census/runs/7-count",
    workspace="/state/jobs/census/workspace",
    bin_dir="/state/bin",
    project="/",
    machines={"x86_64", "aarch64"},
    epoch=4,
)
LABELS = {
    "app.kubernetes.io/name": "air-executor-runner",
    "app.kubernetes.io/component": "runner",
    "app.kubernetes.io/managed-by": "air-executor",
    "air-executor/job": "census",
    "air-executor/uid": "0badcafe",
    "air-executor/run": "0badcafe-7",
    "air-executor/slot": "0",
    "air-executor/epoch": "4",
}
ANNOTATIONS = {
    "air-executor/task": "count",
    "air-executor/version": "0.1",
    "air-executor/state-dir": "prod/state/team/a",
}
AUTOSCALER = "cluster-autoscaler.kubernetes.io/safe-to-evict"
KEEP_NODE = {AUTOSCALER: "false", "karpenter.sh/do-not-disrupt": "true"}
CONTAINER = {
    "name": "task",
    "image": "python:3.12-slim",
    "imagePullPolicy": "IfNotPresent",
    "command": [
        "sh",
        "-c",
        (
            "_air_from=/air/bin; case $$(uname -m) in aarch64|x86_64) "
            '[ ! -x "$$_air_from/$$(uname -m)/air-runner" ] || _air_from=$$_air_from/$$(uname -m);; esac; '
            '[ "$$_air_from" = /air/bin ] || exec "$$_air_from/air-runner" "$$@"; exec sh /air/bin/air-runner "$$@"'
        ),
        "sh",
        "/air/out",
        "/air/workspace",
        "-",
        "10",
        "container",
        "sh",
        "-c",
        "echo $$$$ $$(date)",
    ],
    "workingDir": "/",
    "env": [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - in the container
        {"name": "AIR_JOB_ID", "value": "census"},
        {"name": "PRICE", "value": "5$$"},
        {"name": "AIR_QUEUE", "value": "/air/out/queue.jsonl"},
        {"name": "AIR_RESULT", "value": "/air/out/result.json"},
        {"name": "AIR_INPUTS", "value": "/air/out/inputs.json"},
        {"name": "AIR_OUTCOMES", "value": "/air/out/outcomes.json"},
        {"name": "AIR_WORKSPACE", "value": "/air/workspace"},
        {"name": "AIR_SLOT", "value": "0"},
        {"name": "_air_bin", "value": "/air/bin"},
        {"name": "_air_image", "value": "python:3.12-slim"},
    ],
    "resources": {
        "requests": {"cpu": "100m", "memory": str(256 << 20)},
        "limits": {"memory": str(2 << 30)},
    },
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    },
    "volumeMounts": [
        {"name": "state", "mountPath": "/air/out", "subPath": "team/a/jobs/census/runs/7-count"},
        {"name": "state", "mountPath": "/air/workspace", "subPath": "team/a/jobs/census/workspace"},
        {"name": "state", "mountPath": "/air/bin", "subPath": "team/a/bin", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
    ],
}
POD: dict[str, Any] = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "shareProcessNamespace": True,
    "terminationGracePeriodSeconds": 12,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [CONTAINER],
    "volumes": [
        {"name": "state", "persistentVolumeClaim": {"claimName": "state"}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": str(256 << 20)}},
    ],
}
INSTANCE = {"app.kubernetes.io/instance": CONFIG.instance, "air-executor/instance": CONFIG.instance}


def test_an_id_that_no_label_can_hold() -> None:
    """An annotation has it, the label has the name derived from it, and a manager knows the run again from both."""
    for job in ("A" * 64, "a_", "_a"):
        launch = dataclasses.replace(LAUNCH, slot=Slot(job, 1))
        meta = job_manifest(CONFIG, launch, TODAY)["metadata"]
        assert labeled_run(meta) == (launch.slot, launch.run)
        assert meta["annotations"]["air-executor/job"] == job
        assert meta["labels"]["air-executor/job"] == platform_name(job)
        kubernetes_validate.validate(job_manifest(CONFIG, launch, TODAY), "1.34", strict=True)


def manifest(server: tuple[int, int] = OLD, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Return the Job of the launch with changes."""
    return job_manifest(CONFIG, dataclasses.replace(LAUNCH, **changes), server)


def container(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Return the container of the launch with changes."""
    found: dict[str, Any] = manifest(**changes)["spec"]["template"]["spec"]["containers"][0]
    return found


def with_settings(**changes: Any) -> ClusterConfig:  # noqa: ANN401 - any field
    """Return the config with other settings."""
    return dataclasses.replace(CONFIG, settings=SETTINGS.model_copy(update=changes))


def test_the_whole_job() -> None:
    """Nothing is in it that is not here; to an old server nothing is sent that it would drop."""
    labels = LABELS | INSTANCE
    assert manifest() == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "air-census", "labels": labels, "annotations": ANNOTATIONS},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": 86400,
            "template": {"metadata": {"labels": labels, "annotations": KEEP_NODE | ANNOTATIONS}, "spec": POD},
        },
    }


def test_a_newer_server_is_told_never_to_replace_a_pod() -> None:
    """Today's servers know policies for failed pods; they only add to the Job of an old one."""
    before, now = manifest()["spec"], manifest(TODAY)["spec"]
    assert {key: value for key, value in now.items() if key not in before} == {
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"containerName": "task", "operator": "NotIn", "values": [0]}},
            ]
        },
        "podReplacementPolicy": "Failed",
    }
    assert now.items() >= before.items()


SERVICE = LaunchService(
    name="db",
    image="postgres:16",
    argv=("postgres", "-c", "fsync=$(off)"),
    env={"PGDATA": "/tmp/data"},  # noqa: S108 - in the container
    secrets={"POSTGRES_PASSWORD": ""},
    ready=("pg_isready",),
    ready_timeout=30.0,
    resources={"cpu": 2, "memory": 1 << 30},
)
SERVICE_CONTAINER: dict[str, Any] = {
    "name": "service-db",
    "image": "postgres:16",
    "imagePullPolicy": "IfNotPresent",
    "args": ["postgres", "-c", "fsync=$$(off)"],
    "env": [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - in the container
        {"name": "PGDATA", "value": "/tmp/data"},  # noqa: S108 - in the container
        {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "POSTGRES_PASSWORD"}}},
    ],
    "resources": {
        "requests": {"cpu": "2000m", "memory": str(1 << 30)},
        "limits": {"cpu": "2000m", "memory": str(1 << 30)},
    },
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": False,
        "runAsUser": 1001,
        "runAsGroup": 1001,
    },
    "terminationMessagePolicy": "FallbackToLogsOnError",
}
PROBE = {"periodSeconds": 1, "failureThreshold": 30, "timeoutSeconds": 10}
TMP = {"name": "service-db", "mountPath": "/tmp"}  # noqa: S108 - in the container


def pod_with_service(server: tuple[int, int]) -> dict[str, Any]:
    """Return the spec of a Pod with a service."""
    found = job_manifest(with_settings(secret="keys"), dataclasses.replace(LAUNCH, services=[SERVICE]), server)  # noqa: S106 - a name
    kubernetes_validate.validate(found, "1.34", strict=True)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def test_a_service_is_a_native_sidecar() -> None:
    """The node starts it first, waits for it, and stops it after the task, whose own container is as without it."""
    probe = {"exec": {"command": ["pg_isready"]}, **PROBE}
    tmp = {"name": "service-db", "emptyDir": {"medium": "Memory", "sizeLimit": str(256 << 20)}}
    assert pod_with_service((1, 29)) == {
        **POD,
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["db"]}],
        "initContainers": [
            {**SERVICE_CONTAINER, "restartPolicy": "Always", "startupProbe": probe, "volumeMounts": [TMP]}
        ],
        "volumes": [*POD["volumes"], tmp],
    }


def test_on_an_old_server_the_task_waits_for_its_services() -> None:
    """Once a service is ready, its probe leaves a mark, which the shell before the task's runner waits for."""
    pod = pod_with_service((1, 28))
    mark = 'mark=/air/services/$$1; shift; "$$@" && : >"$$mark"'
    probe = {"exec": {"command": ["sh", "-c", mark, "sh", "db", "pg_isready"]}, **PROBE}
    marks = {"name": "services", "mountPath": "/air/services"}
    task, service = pod["containers"]
    assert service == {**SERVICE_CONTAINER, "startupProbe": probe, "volumeMounts": [TMP, marks]}
    wait = (
        'for name in db; do until [ -e "/air/services/$$name" ]; do sleep 0.1 2>/dev/null || sleep 1; done; done; '
        'exec "$$@"'
    )
    assert task == {
        **CONTAINER,
        "command": ["sh", "-c", wait, "sh", *CONTAINER["command"]],
        "volumeMounts": [*CONTAINER["volumeMounts"], {**marks, "readOnly": True}],
    }
    assert "initContainers" not in pod


def test_the_jobs_deadline_is_behind_all_others() -> None:
    """It only strikes where neither runner nor manager did; without a timeout there is none."""
    deadline = 600 + 600 + 120 + 65 + 300
    assert manifest(timeout=60.0, grace=5.0)["spec"]["activeDeadlineSeconds"] == deadline
    over_http = with_settings(transport="http", transport_url="http://air:9464", claim=None)
    launch = dataclasses.replace(LAUNCH, timeout=60.0, grace=5.0)
    assert job_manifest(over_http, launch, OLD)["spec"]["activeDeadlineSeconds"] == deadline + DELIVER_WITHIN


def test_the_longest_names_fit() -> None:
    """A job id of 40 characters, a prefix of 12 and a slot stay below the 63 that Kubernetes allows."""
    config = dataclasses.replace(CONFIG, prefix="p" * 12)
    found = job_manifest(config, dataclasses.replace(LAUNCH, slot=Slot("j" * 40, 99999)), OLD)
    assert len(found["metadata"]["name"]) <= 63
    assert all(len(value) <= 63 for value in found["metadata"]["labels"].values())


def test_resources_are_reserved_as_asked() -> None:
    """What a task names is its request and its limit, so that it gets it and no more."""
    found = container(options={"resources": {"cpu": 1.5, "memory": 1 << 30, "gpu": 2}})["resources"]
    assert found == {
        "requests": {"cpu": "1500m", "memory": str(1 << 30)},
        "limits": {"cpu": "1500m", "memory": str(1 << 30), "nvidia.com/gpu": "2"},
    }


def test_secrets_go_by_reference() -> None:
    """Their values are in no manifest; without the operator's Secret there are none."""
    launch = dataclasses.replace(LAUNCH, secrets={"TOKEN": ""})
    env = job_manifest(with_settings(secret="keys"), launch, OLD)["spec"]["template"]["spec"]["containers"][0]["env"]  # noqa: S106 - a name
    assert env[-1] == {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}}
    with pytest.raises(SpawnRejectedError, match="AIR_KUBERNETES_SECRET"):
        job_manifest(CONFIG, launch, OLD)


def test_secrets_of_a_tasks_own() -> None:
    """They are keys of the Secret that it names, as far as the operator allows it whole, or these keys of it."""

    def taken(*allowed: str, for_all: str | None = "shared", **secrets: str) -> list[str]:
        config = with_settings(secret=for_all, allow_secrets=allowed)
        launch = dataclasses.replace(LAUNCH, secrets=secrets, options={"kubernetes": {"secret": "team"}})
        container = job_manifest(config, launch, TODAY)["spec"]["template"]["spec"]["containers"][0]
        found = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one]
        return [f"{one['name']}/{one['key']}" for one in found]

    assert taken("team", A="", B="") == ["team/A", "team/B"]
    assert taken("team/A", "team/B", A="", B="", for_all=None) == ["team/A", "team/B"]
    assert taken(for_all="team", A="") == ["team/A"], "what all tasks may use"
    assert taken() == [], "it needs none"
    for allowed in ((), ("other",), ("team/A",), ("TEAM",)):
        with pytest.raises(
            SpawnRejectedError, match=r"secret: team/.* is not allowed; .* AIR_KUBERNETES_ALLOW_SECRETS$"
        ):
            taken(*allowed, A="", B="")


def test_a_template_that_selects_an_architecture_needs_no_shell(tmp_path: Path) -> None:
    """The native runner for it is the first program of the Pod, if it is there; else a shell finds out."""
    template = {"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}
    config, launch = dataclasses.replace(CONFIG, template=template), dataclasses.replace(LAUNCH, bin_dir=str(tmp_path))

    def command() -> list[str]:
        found: list[str] = job_manifest(config, launch, OLD)["spec"]["template"]["spec"]["containers"][0]["command"]
        return found

    assert command()[:2] == ["sh", "/air/bin/air-runner"]
    (tmp_path / "aarch64").mkdir()
    (tmp_path / "aarch64/air-runner").touch(mode=0o755)
    assert command()[:2] == ["/air/bin/aarch64/air-runner", "/air/out"]
    launch = dataclasses.replace(launch, machines={"x86_64"})
    assert command()[:2] == ["sh", "/air/bin/air-runner"], "that of another version is there"


def test_a_copied_runner_needs_no_shell() -> None:
    """An init container of the default image sees what node it is on; the task's own is started without a shell."""
    launch = dataclasses.replace(LAUNCH, options={"image": "scratch:1"})
    pod = job_manifest(with_settings(copy_runner=True), launch, OLD)["spec"]["template"]["spec"]
    [copy], [own] = pod["initContainers"], pod["containers"]
    plain = container(options={"image": "scratch:1"})
    assert own["command"][:2] == ["/air/runner/air-runner", "/air/out"]
    assert copy["image"] == container()["image"] != own["image"]
    assert copy["securityContext"] == own["securityContext"]
    assert [mount["mountPath"] for mount in copy["volumeMounts"]] == ["/air/bin", "/air/runner"]
    assert own["volumeMounts"] == [
        *plain["volumeMounts"],
        {"name": "runner", "mountPath": "/air/runner", "readOnly": True},
    ]
    assert {"name": "runner", "emptyDir": {"sizeLimit": "16Mi"}} in pod["volumes"]


@pytest.mark.parametrize(("value", "said"), [("plain", "run\n"), ("a\ufffdb", ""), ("", "run\n")])
def test_a_secret_that_the_node_changed_fails_the_task(value: str, said: str) -> None:
    """Bytes that are no text become something else on the way: the task says so and does not begin."""
    launch = dataclasses.replace(LAUNCH, argv=("echo", "run"), secrets={"KEY": "", "TOKEN": ""})
    command = job_manifest(with_settings(secret="keys"), launch, OLD)["spec"]["template"]["spec"]["containers"][0]  # noqa: S106 - a name
    words = [word.replace("$$", "$") for word in command["command"]]
    done = subprocess.run(
        words[-6:],
        env={"PATH": os.environ["PATH"], "KEY": "k", "TOKEN": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (said, 0 if said else 1)
    assert ("secret TOKEN is not UTF-8 text" in done.stderr) == (not said)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"network": "host"}, "AIR_KUBERNETES_ALLOW_NETWORKS"),
        ({"mounts": [{"source": "data", "target": "/data"}]}, "AIR_KUBERNETES_ALLOW_CLAIMS"),
        ({"mounts": [{"source": "state", "target": "/data"}]}, "AIR_KUBERNETES_ALLOW_CLAIMS"),
        ({"mounts": [{"source": "allowed", "target": "/air/out"}]}, "belongs to Air-Executor"),
        ({"mounts": [{"source": "allowed", "target": "/data/../air"}]}, "belongs to Air-Executor"),
        ({"mounts": [{"source": "allowed/../x", "target": "/data"}]}, r"cannot have \.\."),
        ({"mounts": [{"source": "/etc", "target": "/data"}]}, "AIR_KUBERNETES_ALLOW_CLAIMS"),
    ],
)
def test_what_a_task_may_not_have(options: dict[str, Any], words: str) -> None:
    """Tasks get other claims and networks only where the operator lists them, and the state directory never."""
    config = with_settings(allow_claims=("allowed", "state"))
    with pytest.raises(SpawnRejectedError, match=words):
        job_manifest(config, dataclasses.replace(LAUNCH, options=options), OLD)


def test_what_the_operator_allows() -> None:
    """A claim is mounted once however often a task names it; a network is a label for NetworkPolicies."""
    options = {
        "network": "lan",
        "mounts": [
            {"source": "data/sets", "target": "/sets", "read_only": True},
            {"source": "data", "target": "/all"},
        ],
    }
    config = with_settings(allow_claims=("data",), allow_networks=("lan",))
    template = job_manifest(config, dataclasses.replace(LAUNCH, options=options), OLD)["spec"]["template"]
    assert template["metadata"]["labels"]["air-executor/network"] == "lan"
    assert template["spec"]["volumes"][2:] == [{"name": "claim-0", "persistentVolumeClaim": {"claimName": "data"}}]
    assert template["spec"]["containers"][0]["volumeMounts"][4:] == [
        {"name": "claim-0", "mountPath": "/sets", "subPath": "sets", "readOnly": True},
        {"name": "claim-0", "mountPath": "/all"},
    ]


def test_the_job_goes_with_its_owner() -> None:
    """Where the operator names a Deployment, its deletion takes the Jobs along."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "air", "uid": "u"}
    assert job_manifest(CONFIG, LAUNCH, OLD, owner)["metadata"]["ownerReferences"] == [owner]


def test_the_template_is_merged_as_kubernetes_merges() -> None:
    """Named lists item by item, others as a whole, null removes; who the pod is and that it runs once stays."""
    template = {
        "metadata": {
            "labels": {"team": "a", "air-executor/job": "forged"},
            "annotations": {"note": "x", AUTOSCALER: "true"},
        },
        "spec": {
            "restartPolicy": "Always",
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "low",
            "shareProcessNamespace": None,
            "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": None}}],
            "containers": [
                {
                    "name": "task",
                    "env": [{"name": "PRICE", "value": "6"}, {"name": "ZONE", "value": "z"}],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                },
                {"name": "proxy", "image": "proxy:1"},
            ],
        },
    }
    found = job_manifest(dataclasses.replace(CONFIG, template=template), LAUNCH, OLD)["spec"]["template"]
    pod = {key: value for key, value in POD.items() if key != "shareProcessNamespace"}
    env = [{"name": "PRICE", "value": "6"} if item["name"] == "PRICE" else item for item in CONTAINER["env"]]  # type: ignore[index]
    assert found["metadata"]["labels"] == LABELS | INSTANCE | {"team": "a"}
    assert found["metadata"]["annotations"] == KEEP_NODE | ANNOTATIONS | {"note": "x", AUTOSCALER: "true"}
    assert found["spec"] == pod | {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "low",
        "volumes": [
            POD["volumes"][0],
            {"name": "tmp", "emptyDir": {"sizeLimit": str(256 << 20)}},
            {"name": "cache", "emptyDir": {}},
        ],
        "containers": [
            CONTAINER
            | {
                "env": [*env, {"name": "ZONE", "value": "z"}],
                "volumeMounts": [*CONTAINER["volumeMounts"], {"name": "cache", "mountPath": "/cache"}],
            },
            {"name": "proxy", "image": "proxy:1"},
        ],
    }


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
def test_schema_of_current_servers(version: str) -> None:
    """With all that a task and an operator may ask for, a Job has only fields, of the right types, that exist."""
    options = {
        "resources": {"cpu": 2, "memory": 1 << 30, "gpu": 1},
        "network": "open",
        "mounts": [{"source": "data/in", "target": "/data", "read_only": True}],
    }
    launch = dataclasses.replace(LAUNCH, timeout=90.5, options=options, secrets={"TOKEN": "x"})
    config = with_settings(
        cpus=4.0,
        secret="keys",  # noqa: S106 - the name of an object
        service_account="runners",
        allow_claims=("data",),
        allow_networks=("open",),
    )
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rel", "uid": "1"}
    major, _, minor = version.partition(".")
    made = job_manifest(config, launch, (int(major), int(minor)), owner)
    kubernetes_validate.validate(made, version, strict=True)
    made["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, version, strict=True)


def test_directives_of_a_patch() -> None:
    """`$patch` deletes an item, or replaces an object where it would be merged."""
    base = {"volumes": [{"name": "a", "x": 1}, {"name": "b"}], "securityContext": {"runAsUser": 1, "fsGroup": 1}}
    patch = {
        "volumes": [{"name": "b", "$patch": "delete"}],
        "securityContext": {"$patch": "replace", "runAsUser": 2},
    }
    assert pod_template.merge(base, patch) == {
        "volumes": [{"name": "a", "x": 1}],
        "securityContext": {"runAsUser": 2},
    }
    replaced = {"volumes": [{"$patch": "replace"}, {"name": "c"}]}
    assert pod_template.merge(base, replaced)["volumes"] == [{"name": "c"}]
    with pytest.raises(BadInputError, match="needs a name"):
        pod_template.merge(base, {"volumes": [{"emptyDir": {}}]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spec: [1]", "spec must be an object"),
        ("kind: Pod", "metadata and spec"),
        ("spec: {volumes: [{emptyDir: {}}]}", "needs a name"),
        ("[1]", "metadata and spec"),
        ("a: b: c", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_template_that_is_none(tmp_path: Path, text: str | None, words: str) -> None:
    """The manager does not start with it, and says what is wrong."""
    path = tmp_path / "pod.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInputError, match=words):
        pod_template.load(str(path))


def test_what_no_cluster_takes_is_refused_before_it_is_asked() -> None:
    """A variable that no kernel passes on, and a Job that does not fit into etcd: with what to do instead."""
    long = dataclasses.replace(LAUNCH, env={"TEXT": "x" * 131_072})
    with pytest.raises(SpawnRejectedError, match=r"env TEXT: longer than the 128 KiB .* pass it as a file"):
        job_manifest(CONFIG, long, OLD)
    job_manifest(CONFIG, dataclasses.replace(LAUNCH, env={"TEXT": "x" * 131_066}), OLD)
    many = dataclasses.replace(LAUNCH, env={f"V{number}": "x" * 100_000 for number in range(16)})
    with pytest.raises(SpawnRejectedError, match="bytes, more than a cluster takes"):
        job_manifest(CONFIG, many, OLD)


# What a task asks for

ASKED = {
    "node_selector": {"pool": "gpu"},
    "tolerations": [
        {"key": "gpu"},
        {"key": "spot", "value": "yes", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
    ],
    "service_account": "model-reader",
    "priority_class": "batch-low",
    "labels": {"kueue.x-k8s.io/queue-name": "team-a"},
    "annotations": {"example.com/owner": "vision & co"},
}
ALLOWED = {
    "allow_node_labels": ("pool",),
    "allow_tolerations": ("gpu", "spot"),
    "allow_service_accounts": ("model-reader",),
    "allow_priority_classes": ("batch-low",),
    "allow_labels": ("kueue.x-k8s.io/queue-name", "team", "air-executor/job"),
    "allow_annotations": ("example.com/owner",),
}


def made(asked: Mapping[str, Any], **allowed: object) -> dict[str, Any]:
    """Return the Job of a task that asks for this, where the operator allows that."""
    config = dataclasses.replace(CONFIG, settings=SETTINGS.model_copy(update=allowed))
    launch = dataclasses.replace(
        LAUNCH, options={"kubernetes": asked}, labels={"team": "vision", "note": "two words", "air-executor/job": "x"}
    )
    return job_manifest(config, launch, TODAY)


def test_what_a_task_asks_for_and_may_have() -> None:
    """All of it is in the pod, labels and annotations are on the Job, too; the identity of the run is not changed."""
    job = made(ASKED, **ALLOWED)
    kubernetes_validate.validate(job, "1.34", strict=True)
    pod = job["spec"]["template"]
    spec = pod["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
    ]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("model-reader", True)
    assert spec["priorityClassName"] == "batch-low"
    for metadata in (job["metadata"], pod["metadata"]):
        labels = metadata["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "team-a"
        assert labels["team"] == labels["labels.air-executor/team"] == "vision"
        assert labels["air-executor/job"] == "census"
        assert "two words" not in labels.values()
        assert metadata["annotations"]["example.com/owner"] == "vision & co"


VOLUMES = {
    "config_maps": [{"name": "model-config", "path": "/etc/model"}],
    "secret_files": [{"name": "registry", "path": "/etc/registry/"}],
    "scratch": [{"path": "/scratch", "size": 20 << 30}, {"path": "/cache", "size": 1 << 30}],
}
VOLUMES_ALLOWED = {
    "allow_config_maps": ("model-config",),
    "allow_secret_files": ("registry",),
    "allow_scratch": 21 << 30,
}


def test_volumes_that_a_task_asks_for_and_may_have() -> None:
    """Config maps and secrets are read-only folders; scratch folders have a limit, for which the node needs room."""
    job = made(VOLUMES, **VOLUMES_ALLOWED)
    kubernetes_validate.validate(job, "1.34", strict=True)
    spec = job["spec"]["template"]["spec"]
    assert spec["volumes"][-4:] == [
        {"name": "requested-0", "configMap": {"name": "model-config"}},
        {"name": "requested-1", "secret": {"secretName": "registry", "defaultMode": 0o440}},
        {"name": "requested-2", "emptyDir": {"sizeLimit": str(20 << 30)}},
        {"name": "requested-3", "emptyDir": {"sizeLimit": str(1 << 30)}},
    ]
    container = spec["containers"][0]
    assert container["volumeMounts"][-4:] == [
        {"name": "requested-0", "mountPath": "/etc/model", "readOnly": True},
        {"name": "requested-1", "mountPath": "/etc/registry", "readOnly": True},
        {"name": "requested-2", "mountPath": "/scratch"},
        {"name": "requested-3", "mountPath": "/cache"},
    ]
    assert container["resources"]["requests"]["ephemeral-storage"] == str(21 << 30)


@pytest.mark.parametrize("field", sorted(VOLUMES))
def test_volumes_that_the_operator_does_not_allow(field: str) -> None:
    """They are refused for good, with the name of the setting; nothing is allowed by default."""
    setting = f"AIR_KUBERNETES_ALLOW_{field.upper()}"
    with pytest.raises(SpawnRejectedError, match=rf"kubernetes.{field}: .* not allowed; .* with {setting}$"):
        made({field: VOLUMES[field]})


@pytest.mark.parametrize("path", ["/air/out", "/tmp", "/etc/x/../model"])  # noqa: S108 - in a container
def test_a_place_that_is_taken(path: str) -> None:
    """No volume hides what is ours, nor another one."""
    asked = {**VOLUMES, "scratch": [{"path": path, "size": 1 << 20}]}
    with pytest.raises(SpawnRejectedError, match="is taken"):
        made(asked, **VOLUMES_ALLOWED)


@pytest.mark.parametrize("field", sorted(ASKED))
def test_what_the_operator_does_not_allow(field: str) -> None:
    """It is refused for good, with the name of the setting; nothing is allowed by default."""
    words = {
        "node_selector": "NODE_LABELS",
        "service_account": "SERVICE_ACCOUNTS",
        "priority_class": "PRIORITY_CLASSES",
    }
    setting = f"AIR_KUBERNETES_ALLOW_{words.get(field, field.upper())}"
    with pytest.raises(SpawnRejectedError, match=rf"kubernetes.{field}: .* not allowed; .* with {setting}$"):
        made({field: ASKED[field]})


@pytest.mark.parametrize(
    "label", ["air-executor/run", "app.kubernetes.io/name", "batch.kubernetes.io/job-name", "job-name"]
)
def test_what_belongs_to_others(label: str) -> None:
    """No operator can allow by mistake what identifies runners or means something to the cluster."""
    for field in ("labels", "annotations"):
        with pytest.raises(SpawnRejectedError, match="belongs to Air-Executor or to the cluster"):
            made({field: {label: "x"}}, allow_labels=(label,), allow_annotations=(label,))


def test_labels_for_people_reach_the_cluster_under_a_prefix() -> None:
    """Not under their own names: an operator's NetworkPolicy may select by these."""
    labels = made({})["metadata"]["labels"]
    assert labels["labels.air-executor/team"] == "vision"
    assert "team" not in labels
