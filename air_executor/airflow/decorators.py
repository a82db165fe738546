"""`@task.air_executor`: a function that runs in an ephemeral runner, with JSON values as arguments and result.

The runner executes the function's source, so the function imports what it needs itself, and the runner needs Python but
not Airflow. Like any task it can queue more tasks: through `$AIR_QUEUE`, or with the module `air_executor`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    DecoratedOperator,
    TaskDecorator,
    task_decorator_factory,
)

from air_executor.airflow.operators import AirExecutorOperator

_PROGRAM = """\
from __future__ import annotations
import json, os
args, kwargs = json.loads({arguments!r})
{source}
result = {name}(*args, **kwargs)
if result is not None:
    with open(os.environ["AIR_RESULT"], "w") as file:
        json.dump(result, file)
"""

MAX_PROGRAM = 120_000
"""Bytes; Linux allows 128 KiB for one argument (`MAX_ARG_STRLEN`)."""


class AirExecutorDecoratedOperator(DecoratedOperator, AirExecutorOperator):
    """Run one Python function in a runner.

    Args:
        python_callable: the function. Its arguments and its result must be JSON values.
        python_command: the interpreter in the runner.
        op_args: arguments by position.
        op_kwargs: arguments by name.
    """

    template_fields: ClassVar[Sequence[str]] = (
        "python_command",
        "op_args",
        "op_kwargs",
        *AirExecutorOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **AirExecutorOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.air_executor"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python_command: str = "python",
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("start_from_trigger", False):
            message = "@task.air_executor: start_from_trigger is not possible: only a worker knows the arguments"
            raise ValueError(message)
        self.python_command = python_command
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Run the function in a runner and return what it returned."""
        try:
            arguments = json.dumps([list(self.op_args), dict(self.op_kwargs)])
        except TypeError as error:
            message = f"{self.task_id}: arguments must be JSON values ({error})"
            raise AirflowFailException(message) from None
        source, name = self.get_python_source(), self.python_callable.__name__
        program = _PROGRAM.format(arguments=arguments, source=source, name=name)
        if len(program.encode()) > MAX_PROGRAM:
            message = f"{self.task_id}: source and arguments exceed {MAX_PROGRAM} bytes: pass large values by file"
            raise AirflowFailException(message)
        self.command = [self.python_command, "-c", program]
        return super().execute(context)

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
        """Return what the function returned."""
        self.command = [self.python_command]  # its result is that of a single command; the job has the program
        return super().execute_complete(context, event)


def air_executor_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a function a task that runs in an ephemeral runner; keywords are the operator's."""
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=AirExecutorDecoratedOperator, **kwargs
    )
