"""The commands `airflow air-executor …` of Airflow's command line.

Airflow reads them at every start of its command line, so a command's module is imported when the command is called.
"""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

_CONNECTION = Arg(("--conn-id",), help="connection that names the state directory")
_JSON = Arg(("--json",), help="print JSON", action="store_true")


def get_commands() -> list[GroupCommand]:
    """Return the group of commands."""
    doctor = ActionCommand(
        name="doctor",
        help="Check Airflow and Air-Executor together",
        description="Check what the Airflow integration needs; exits with 1 if something is broken.",
        func=lazy_load_command("air_executor.airflow.diagnosis.doctor"),
        args=(_CONNECTION, _JSON),
    )
    return [GroupCommand(name="air-executor", help="Air-Executor", subcommands=(doctor,))]
