"""`air-executor shell` on a cluster: with one's own rights, which the manager does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cluster import Namespace
from tests.conftest import wait_for
from tests.kubernetes.managers import PATIENCE, Start

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]


def limited(namespace: Namespace, folder: Path, kubeconfig: str) -> str:
    """Return a KUBECONFIG of an account that may look at pods, and no more."""
    rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    namespace.ask("POST", f"{rights}/roles", {"metadata": {"name": "looks"}, "rules": rules})
    account = {"kind": "ServiceAccount", "name": "default", "namespace": namespace.name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looks"}
    namespace.ask(
        "POST", f"{rights}/rolebindings", {"metadata": {"name": "looks"}, "subjects": [account], "roleRef": role}
    )
    token = namespace.ask("POST", f"{namespace.core}/serviceaccounts/default/token", {"spec": {"audiences": None}})
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(Path(kubeconfig))
    for user in config["users"]:
        user["user"] = {"token": token["status"]["token"]}
    path = folder / "limited"
    yaml.dump(config, path)
    return str(path)


def test_a_shell_takes_the_rights_of_its_user(tmp_path: Path, namespace: Namespace, start: Start) -> None:
    """With them a command is the task's neighbor; without, the message says what to do."""
    client = Client(tmp_path / "state")
    start("manager")
    client.submit(parse_job({"id": "j", "tasks": [{"id": "one", "command": "until [ -e go ]; do sleep 0.1; done"}]}))
    settings = {"AIR_BACKEND": "kubernetes", "AIR_KUBERNETES_NAMESPACE": namespace.name}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")} | settings

    def shell(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / "state"), "shell", "j", "one"]
        words += ["--", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=plain | env)

    wait_for(lambda: client.status("j").tasks["one"].phase == "running", PATIENCE, "the task to be known to run")
    wait_for(lambda: shell("true").returncode == 0, PATIENCE, "the pod to run")
    done = shell("sh", "-c", 'echo "$AIR_TASK_ID in $PWD"; echo oh >&2; exit 7')
    assert (done.returncode, done.stdout, done.stderr) == (7, "one in /air/workspace\n", "oh\n")

    refused = shell("true", KUBECONFIG=limited(namespace, tmp_path, os.environ["KUBECONFIG"]))
    assert refused.returncode == 2
    assert f"use your own, or `kubectl -n {namespace.name} exec -it air-j-" in refused.stderr

    assert shell("touch", "go").returncode == 0
    assert client.wait("j", PATIENCE).phase == "succeeded"
