"""The chart as a file: every supported set-up renders into objects that today's Kubernetes takes, nonsense does not."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import kubernetes_validate
import pytest

from helm.values_table import README, defaults, documented, readme
from tests.helm.chart import (
    CHART,
    NAME,
    NAMESPACE,
    SETUPS,
    helm,
    kinds,
    parse,
    pick,
    pods,
    refusal,
    render,
    template,
    values_of,
)

pytestmark = pytest.mark.kubernetes

NEWEST, OLDEST = "1.37", "1.20.0"


@pytest.mark.parametrize("setup", SETUPS)
def test_lint(helm_program: str, setup: str) -> None:
    """Helm finds nothing to mend."""
    said = helm(helm_program, "lint", "--strict", str(CHART), *values_of(setup))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@pytest.mark.parametrize("setup", SETUPS)
def test_newest_kubernetes_takes_it(helm_program: str, setup: str) -> None:
    """Each object has only fields, of the right types, that the schema of the newest Kubernetes knows."""
    objects = render(helm_program, "--kube-version", NEWEST, *values_of(setup))
    assert len(objects) >= 4
    for one in objects:
        if one["apiVersion"].startswith(("monitoring.coreos.com/", "gateway.networking.k8s.io/")):
            continue  # not Kubernetes' own; test_monitored and test_web compare them whole
        kubernetes_validate.validate(one, NEWEST, strict=True)


@pytest.mark.parametrize("claim", ["", "77"])
def test_names_that_look_like_something_else(helm_program: str, claim: str) -> None:
    """A folder called 2024, a prefix called `on`: YAML sees numbers and switches, the server takes text alone."""
    sets = {
        "fullnameOverride": "42",
        "namePrefix": "on",
        "persistence.existingClaim": claim,
        "persistence.subPath": "2024",
        "persistence.storageClass": "5",
        "secretsName": "1e3",
        "metrics.tokenSecret": "12",
        "metrics.service.enabled": True,
        "serviceAccount.name": "99",
        "priorityClassName": "true",
        "replicas": 2,
    }
    objects = parse(helm(helm_program, "template", "2024", str(CHART), "--namespace", "123", *template(sets=sets)[5:]))
    assert len(objects) >= 9
    for one in objects:
        kubernetes_validate.validate(one, NEWEST, strict=True)


def test_validator_refuses_unknown_fields(helm_program: str) -> None:
    """The schema would notice a field that does not exist."""
    deployment = pick(render(helm_program), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize("setup", SETUPS)
def test_all_in_the_release_namespace_and_labelled(helm_program: str, setup: str) -> None:
    """Everything says where it belongs, by the recommended labels."""
    for one in render(helm_program, *values_of(setup)):
        assert one["metadata"]["namespace"] == NAMESPACE
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "air-executor"
        assert labels["app.kubernetes.io/instance"] == "rel"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize("setup", SETUPS)
def test_pods_are_restricted(helm_program: str, setup: str) -> None:
    """Every pod keeps to the Pod Security Standard `restricted`, on a read-only root."""
    for pod in pods(render(helm_program, *values_of(setup))):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_only_the_manager_has_a_token(helm_program: str) -> None:
    """The account itself gives none, the test's pod asks for none."""
    objects = render(helm_program)
    assert pick(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pick(objects, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert pick(objects, "Pod", f"{NAME}-test")["spec"]["automountServiceAccountToken"] is False


def test_instance_is_where_the_state_directory_lies(helm_program: str) -> None:
    """Lease and runners are found by the digits that the manager computes of namespace, claim and folder."""
    objects = render(helm_program, *values_of("high-availability"))
    expected = hashlib.sha256(f"{NAMESPACE}/shared/teams/blue".encode()).hexdigest()[:12]
    runners = pick(objects, "NetworkPolicy", f"{NAME}-runners")["spec"]["podSelector"]
    assert runners == {"matchLabels": {"air-executor/instance": expected}}
    rules = pick(objects, "Role")["rules"]
    assert [rule["resourceNames"] for rule in rules if rule["resources"] == ["leases"] and "resourceNames" in rule] == [
        [f"air-executor-{expected}"]
    ]


def test_claim(helm_program: str) -> None:
    """By default a claim is made and outlives the release; with one that exists none is."""
    made = pick(render(helm_program), "PersistentVolumeClaim")
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert made["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    by_hand = pick(render(helm_program, *values_of("by-hand")), "PersistentVolumeClaim")
    assert by_hand["spec"]["storageClassName"] == ""
    assert by_hand["metadata"]["annotations"] == {"example.com/backup": "nightly"}
    objects = render(helm_program, *values_of("high-availability"))
    assert "PersistentVolumeClaim" not in kinds(objects)
    for pod in pods(objects):
        assert {"name": "state", "persistentVolumeClaim": {"claimName": "shared"}} in pod["volumes"]
        mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["state"] == {"name": "state", "mountPath": "/project/.air-executor", "subPath": "teams/blue"}


def test_config_is_passed_on_word_for_word(helm_program: str) -> None:
    """What the file says is not touched, and a change of it brings new pods, as does one of the template."""
    text = 'max_runners = 3\n# {{ not a template }}\n[pools]\ngpu = 1\n"ü" = 2\n'
    plain, other, third = (
        render(helm_program, sets=sets)
        for sets in ({}, {"config": text}, {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}})
    )
    assert pick(other, "ConfigMap")["data"] == {"air-executor.toml": text}
    sums = {
        pick(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for objects in (plain, other, third)
    }
    assert len(sums) == 3


def test_pod_template_is_handed_to_the_manager(helm_program: str) -> None:
    """The overlay is a file beside the configuration, and a setting names it."""
    objects = render(helm_program, *values_of("locked-down"))
    (template,) = parse(pick(objects, "ConfigMap")["data"]["pod-template.yaml"])
    assert template["spec"]["priorityClassName"] == "tasks"
    container = pick(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    mount = {"name": "config", "mountPath": "/etc/air-executor", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert {
        "name": "AIR_KUBERNETES_POD_TEMPLATE",
        "value": "/etc/air-executor/pod-template.yaml",
    } in container["env"]


def test_job_files_are_a_folder_of_the_manager(helm_program: str) -> None:
    """Word for word, in a map of their own: their change restarts nothing."""
    text = 'name: report\nparams: {DAY: "{{ scheduled_date }}"}\nschedule: {every: 1h}\ntasks: [{command: x}]\n'
    plain, other = (render(helm_program, sets={"jobs": {"report.yaml": one}}) for one in (text, f"{text}# more\n"))
    found = next(one for one in plain if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-jobs"))
    assert found["data"] == {"report.yaml": text}
    pod = pick(plain, "Deployment")["spec"]["template"]
    assert {"name": "jobs", "configMap": {"name": found["metadata"]["name"]}} in pod["spec"]["volumes"]
    mount = {"name": "jobs", "mountPath": "/etc/air-executor-jobs", "readOnly": True}
    container = pod["spec"]["containers"][0]
    assert mount in container["volumeMounts"]
    assert {"name": "AIR_JOBS_DIR", "value": mount["mountPath"]} in container["env"]
    assert pod == pick(other, "Deployment")["spec"]["template"]


def test_rights_only_where_they_are_wanted(helm_program: str) -> None:
    """Roles, bindings and accounts that others give are not made; nothing is for the whole cluster."""
    assert {"Role", "RoleBinding", "ServiceAccount"} <= set(kinds(render(helm_program)))
    given = render(helm_program, *values_of("by-hand"))
    assert not {"Role", "RoleBinding", "ServiceAccount"} & set(kinds(given))
    assert pick(given, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == "given"
    for setup in SETUPS:
        assert not {"ClusterRole", "ClusterRoleBinding"} & set(kinds(render(helm_program, *values_of(setup))))


def test_disruption_budget(helm_program: str) -> None:
    """There is one where a second manager can take over, of the version that the server has."""
    assert "PodDisruptionBudget" not in kinds(render(helm_program))
    for version, expected in ((NEWEST, "policy/v1"), (OLDEST, "policy/v1beta1")):
        objects = render(helm_program, "--kube-version", version, *values_of("high-availability"))
        assert pick(objects, "PodDisruptionBudget")["apiVersion"] == expected
    assert "PodDisruptionBudget" not in kinds(
        render(helm_program, sets={"replicas": 2, "podDisruptionBudget.enabled": False})
    )


def test_replicas_spread(helm_program: str) -> None:
    """Two managers prefer two nodes."""
    assert "topologySpreadConstraints" not in pods(render(helm_program))[0]
    deployment = pick(render(helm_program, sets={"replicas": 2}), "Deployment")["spec"]
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == deployment["selector"]


def test_nobody_connects_to_anything(helm_program: str) -> None:
    """Managers and runners take no connections; where they may connect to is the operator's to say."""
    plain = render(helm_program)
    for name in (NAME, f"{NAME}-runners"):
        spec = pick(plain, "NetworkPolicy", name)["spec"]
        assert (spec["policyTypes"], spec["ingress"], spec["egress"]) == (["Ingress", "Egress"], [], [{}])
    narrow = render(helm_program, *values_of("locked-down"))
    assert pick(narrow, "NetworkPolicy", f"{NAME}-runners")["spec"]["egress"] == []
    assert pick(narrow, "NetworkPolicy")["spec"]["egress"] == [{"ports": [{"port": 443}, {"port": 6443}]}]
    assert "NetworkPolicy" not in kinds(render(helm_program, sets={"networkPolicy.enabled": False}))


def test_images(helm_program: str) -> None:
    """The chart's own version is the default tag; a digest wins."""
    env = pods(render(helm_program))[0]["containers"][0]["env"]
    version = metadata.version("air-executor")
    assert {"name": "AIR_RUNNER_IMAGE", "value": f"air-executor-runner:{version}"} in env
    pod = pods(render(helm_program, *values_of("locked-down"), sets={"image.tag": "x"}))[0]
    assert pod["containers"][0]["image"].startswith("registry.example.com/air-executor-manager@sha256:0123")


def test_pull_policy_of_tasks(helm_program: str) -> None:
    """Kubernetes' word in the values, the setting's in the manager."""
    for sets, word in (({}, "missing"), ({"runnerImage": {"pullPolicy": "Always"}}, "always")):
        container = pick(render(helm_program, sets=sets), "Deployment")["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "AIR_KUBERNETES_PULL", "value": word} in container["env"]


def test_chart_version_is_the_package_version() -> None:
    """Both are released together."""
    (chart,) = parse((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == metadata.version("air-executor")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replica", 2),
        ("replicas", "two"),
        ("replicas", -1),
        ("image.pullPolicy", "Sometimes"),
        ("image.digest", "latest"),
        ("image.name", "x"),
        ("namePrefix", "much-too-long-a-prefix"),
        ("namePrefix", "Air"),
        ("persistence.subPath", "../other"),
        ("persistence.subPath", "/root"),
        ("transport.type", "nfs"),
        ("transport.url", "air.example.com"),
        ("persistence.accessModes", ["ReadOnlyMany"]),
        ("persistence.size", "big"),
        ("config", {"max_runners": 3}),
        ("env", [{"value": "nameless"}]),
        ("env", [{"name": "AIR_BACKEND", "value": "local"}]),
        ("podTemplate", {"nodeSelector": {"a": "b"}}),
        ("resources.request", {"cpu": 1}),
        ("podSecurityContext.runAsUser", 0),
        ("podSecurityContext.runAsNonRoot", False),
        ("podDisruptionBudget.maxUnavailable", 0),
        ("podDisruptionBudget.minAvailable", 1),
        ("networkPolicy.egress", []),
        ("nodeSelector", {"a": 1}),
        ("metrics.enabled", True),
        ("metrics.podMonitor.interval", "often"),
        ("gateway", {"enabled": True, "host": "air.example.com"}),
        ("gateway", {"enabled": True, "parentRefs": [{"name": "public"}]}),
        ("extraObjects", {"kind": "ConfigMap"}),
        ("web.service.type", "ExternalName"),
        ("web.token", "in-clear"),
        ("ingress.host", "https://air.example.com/"),
        ("env", [{"name": "AIR_ADMIN_TOKEN_FILE", "value": "/x"}]),
        ("metrics.serviceMonitor.interval", "often"),
        ("env", [{"name": "AIR_HTTP_HOST", "value": "::"}]),
    ],
)
def test_nonsense_fails_at_render(helm_program: str, path: str, value: object) -> None:
    """A value that does not exist, or cannot be meant, is refused with its name."""
    said = refusal(helm_program, {path: value})
    assert path.split(".", maxsplit=1)[0] in said


def test_every_value_has_a_schema(helm_program: str) -> None:
    """The defaults name every value that the schema allows, and the other way round."""
    (defaults,) = parse((CHART / "values.yaml").read_text(encoding="utf-8"))
    (schema,) = parse((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(defaults) == set(schema["properties"]) - {"global"}
    for name, value in defaults.items():
        closed = schema["properties"][name].get("properties")
        if isinstance(value, dict) and schema["properties"][name].get("additionalProperties") is False:
            allowed = set(closed)
            assert set(value) <= allowed, name


def test_every_value_is_described() -> None:
    """Each, or what it is part of, has a description; the README's table is made of them."""
    described = {value.path for value in documented()}
    waiting: list[tuple[tuple[str, ...], object]] = [((name,), value) for name, value in defaults().items()]
    while waiting:
        path, value = waiting.pop()
        if path not in described:
            assert isinstance(value, dict), f"{'.'.join(path)} has no description"
            assert value, f"{'.'.join(path)} has no description"
            waiting += [((*path, name), one) for name, one in value.items()]
    text = README.read_text(encoding="utf-8")
    assert readme(text) == text, "run python -m helm.values_table"


def test_runners_are_copied_where_that_is_wanted(helm_program: str) -> None:
    """Not by default: it costs each pod an init container."""

    def copies(**sets: object) -> list[str]:
        [manager] = pick(render(helm_program, sets=sets), "Deployment")["spec"]["template"]["spec"]["containers"]
        return [one["value"] for one in manager["env"] if one["name"] == "AIR_KUBERNETES_COPY_RUNNER"]

    assert (copies(), copies(copyRunner=True)) == ([], ["true"])


def test_description_of_a_value(tmp_path: Path) -> None:
    """The lines right above a key, from two dashes on."""
    text = "# Of all.\n\na:\n  # No.\n  # -- One,\n  # two: 3|4.\n  b: [1]\n  c: x\n# -- Lost.\n\n# -- D.\nd: {}\n"
    (tmp_path / "values.yaml").write_text(text, encoding="utf-8")
    assert list(documented(tmp_path)) == [(("a", "b"), [1], "One, two: 3|4."), (("d",), {}, "D.")]
    assert next(documented(tmp_path)).row() == "| `a.b` | list | `[1]` | One, two: 3\\|4. |"


def test_further_objects(helm_program: str) -> None:
    """Maps and texts alike, with templates expanded; what is in the job files is not."""
    objects = render(helm_program, *values_of("gitops"))
    assert pick(objects, "ConfigMap", f"{NAME}-prices")["data"] == {"runner-hour": "0.12"}
    assert pick(objects, "LimitRange")["metadata"]["namespace"] == NAMESPACE


def test_a_cluster_of_one_node(helm_program: str) -> None:
    """A small claim that one node mounts, of the default class."""
    claim = pick(render(helm_program, *values_of("single-node")), "PersistentVolumeClaim")["spec"]
    assert claim == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def test_a_volume_that_root_owns(helm_program: str) -> None:
    """An init container gives it to the manager's user, as root with one capability; not unless asked for."""
    plain, given = (
        pick(render(helm_program, *words), "Deployment") for words in ((), ("--set", "persistence.chown=true"))
    )
    assert "initContainers" not in plain["spec"]["template"]["spec"]
    (init,) = given["spec"]["template"]["spec"]["initContainers"]
    assert init["command"] == ["chown", "65532:65532", "/project/.air-executor"]
    assert (init["securityContext"]["runAsUser"], init["securityContext"]["capabilities"]) == (
        0,
        {"drop": ["ALL"], "add": ["CHOWN"]},
    )
    kubernetes_validate.validate(given, NEWEST, strict=True)
