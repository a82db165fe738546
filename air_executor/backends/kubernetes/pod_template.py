"""The operator's pod template, merged over a task's Pod as Kubernetes merges a strategic patch.

Objects are merged by key, lists of named items by their names, and any other list is replaced. Null removes a key,
`$patch: delete` an item, and an item `$patch: replace` the previous content of its list. Called when the manager starts
(`load`) and for each Pod (`merge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from air_executor.errors import BadInputError

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ports": "containerPort",
}
"""The field that names an item, by list: `patchMergeKey` in Kubernetes' own types. Tolerations have none."""
_DIRECTIVE = "$patch"


def load(path: str) -> dict[str, Any]:
    """Return the template in a YAML file: `metadata` and `spec` of a Pod.

    Raises:
        BadInputError: it cannot be read, or is no template.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = YAML(typ="safe", pure=True).load(file) or {}
    except (OSError, ValueError, YAMLError) as error:
        msg = f"pod template {path}: cannot be read: {error}"
        raise BadInputError(msg) from error
    if not isinstance(found, dict) or not found.keys() <= {"metadata", "spec"}:
        msg = f"pod template {path}: may have the keys metadata and spec, as a pod has them, and no others"
        raise BadInputError(msg)
    for key, value in found.items():
        if not isinstance(value, dict):
            msg = f"pod template {path}: {key} must be an object"
            raise BadInputError(msg)
    merge({}, found)  # so that an error shows now, and not when the first task starts
    return found


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` merged with `patch`; neither is changed."""
    merged = dict(base)
    for key, value in patch.items():
        before = base.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            replaces = value.get(_DIRECTIVE) == "replace" or not isinstance(before, Mapping)
            content = {name: item for name, item in value.items() if name != _DIRECTIVE}
            merged[key] = merge({} if replaces else before, content)  # type: ignore[arg-type]
        elif isinstance(value, list) and key in MERGE_KEYS:
            merged[key] = _merge_named(before or [], value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_named(base: list[Any], patch: list[Any], name: str) -> list[Any]:
    items = [item for item in patch if not (isinstance(item, Mapping) and item.get(_DIRECTIVE) == "replace")]
    # As in Kubernetes: such an item is only a directive, whatever else it has.
    merged = {item.get(name): item for item in base} if len(items) == len(patch) else {}
    for item in items:
        if not isinstance(item, Mapping) or name not in item:
            msg = f"pod template: {item!r} needs a {name}"
            raise BadInputError(msg)
        if item.get(_DIRECTIVE) == "delete":
            merged.pop(item[name], None)
        else:
            merged[item[name]] = merge(merged.get(item[name], {}), item)
    return list(merged.values())
