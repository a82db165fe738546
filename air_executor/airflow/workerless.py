"""What a workerless task cannot do: refused or warned about when the DAG is parsed.

Airflow's scheduler gives such a task straight to the triggerer, which renders templates without the DAG's Python
objects and runs no part of a worker (Airflow 3.3.2). Called by `operators` and `triggers`; knows nothing of jobs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from airflow.providers.common.compat.sdk import XComArg
from jinja2 import nodes
from jinja2.nativetypes import NativeEnvironment

_EXTENSIONS = ["jinja2.ext.do"]
"""As in the template environment of a DAG."""
_HOOKS = (
    "on_execute_callback",
    "on_success_callback",
    "on_skipped_callback",
    "_pre_execute_hook",
    "_post_execute_hook",
)
_LIMITS: Mapping[str, Any] = {
    "pool": "default_pool",
    "pool_slots": 1,
    "max_active_tis_per_dag": None,
    "max_active_tis_per_dagrun": None,
}


def check_operator(operator: Any) -> None:
    """Warn about callbacks, hooks and limits that have no effect on a workerless task.

    Raises:
        ValueError: its outlets would never be updated, or a template would be rendered otherwise than on a worker.
    """
    check_outlets(operator)
    unused = [name.strip("_").removesuffix("_hook") for name in _HOOKS if getattr(operator, name, None)]
    unused += [name for name, default in _LIMITS.items() if getattr(operator, name, default) != default]
    if unused:
        message = f"{operator.task_id}: start_from_trigger: no effect without a worker: {', '.join(unused)}"
        warnings.warn(message, UserWarning, stacklevel=4)
    for name in operator.template_fields:
        for value in _leaves(getattr(operator, name)):
            if problem := _other_result(value) or _other_environment(value, operator.get_dag()):
                message = f"{operator.task_id}: start_from_trigger: {problem}"
                raise ValueError(message)


def check_outlets(operator: Any) -> None:
    """Refuse outlets.

    Raises:
        ValueError: there are some.
    """
    if operator.outlets:
        message = f"{operator.task_id}: start_from_trigger: outlets are updated by workers only, so not at all here"
        raise ValueError(message)


def template_environment(sandboxed: jinja2.Environment, *, native: bool) -> jinja2.Environment:
    """Return the environment that a worker would render with; `sandboxed` is the one that triggers have by default."""
    environment = sandboxed
    if native:
        environment = NativeEnvironment(cache_size=0)
        environment.filters.update(sandboxed.filters)
    for extension in _EXTENSIONS:
        environment.add_extension(extension)
    environment.undefined = jinja2.StrictUndefined
    return environment


def renders_native(task: Any) -> bool:
    """Tell whether a task, or else its DAG, has `render_template_as_native_obj`."""
    own = getattr(task, "render_template_as_native_obj", None)
    dag = task.get_dag() if own is None else None
    return bool(own if dag is None else dag.render_template_as_native_obj)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _other_result(value: Any) -> str | None:
    """Return why the triggerer cannot get another task's result; None if it can, or if none is asked for."""
    pulls = value.split("xcom_pull")[1:] if isinstance(value, str) else ()
    if isinstance(value, XComArg) or any("map_indexes" not in pull for pull in pulls):
        return (
            "another task's result can only be had as a template with map_indexes, "
            "{{ ti.xcom_pull('task', map_indexes=-1) }}: the triggerer answers nothing else, and hangs"
        )
    return None


def _other_environment(value: Any, dag: Any) -> str | None:
    """Return what a template needs of its DAG that the triggerer does not know; None if nothing."""
    if dag is None or not isinstance(value, str) or "{" not in value:
        return None
    if dag.jinja_environment_kwargs:
        return "only workers know the DAG's jinja_environment_kwargs"
    try:
        template = jinja2.Environment(extensions=_EXTENSIONS, autoescape=False).parse(value)  # noqa: S701 - only parsed
    except jinja2.TemplateSyntaxError:
        return None  # fails when it is rendered, as on a worker
    macros = {node.name for node in template.find_all(nodes.Name)} & set(dag.user_defined_macros or ())
    filters = {node.name for node in template.find_all(nodes.Filter)} & set(dag.user_defined_filters or ())
    lenient = dag.template_undefined is not jinja2.StrictUndefined and any(template.find_all(nodes.Output))
    unknown = {
        "user_defined_macros": macros,
        "user_defined_filters": filters,
        "template_undefined": {dag.template_undefined.__name__} if lenient else set(),
    }
    if named := [f"{name} ({', '.join(sorted(found))})" for name, found in unknown.items() if found]:
        return f"only workers know the DAG's {', '.join(named)}"
    if any(template.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
        return "only workers find other template files"
    return None
