"""The commands that Airflow's own command line gets: `airflow air-executor …`.

Airflow asks for them at every start of its command line, so the command itself is imported when it is called.
"""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

_CONNECTION = Arg(("--conn-id",), help="check the state directory that this connection names")
_JSON = Arg(("--json",), help="print JSON", action="store_true")


def get_commands() -> list[GroupCommand]:
    """Return the group of commands."""
    doctor = ActionCommand(
        name="doctor",
        help="Tell what is wrong before the first task",
        description="Check what Air-Executor under Airflow rests on; exits with 1 if something is broken.",
        func=lazy_load_command("air_executor.airflow.diagnosis.doctor"),
        args=(_CONNECTION, _JSON),
    )
    return [GroupCommand(name="air-executor", help="Air-Executor under Airflow", subcommands=(doctor,))]
