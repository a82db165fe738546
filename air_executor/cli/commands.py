"""The list of commands: where each is, and what the help says of it. A command is imported only when it is used."""

from __future__ import annotations

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """A command in the list of commands."""

    module: str
    """Module in this package."""
    function: str
    """Function in the module; its docstring is the long help."""
    summary: str
    """Help in the list of commands: at most 60 characters, so that it fits a line of 80 columns."""
    example: str
    """Words after `air-executor` that one can try."""
    flags: tuple[str, ...] = ()
    """Groups of options; see `flags`."""


SECTIONS = {
    "Run jobs": {
        "demo": CommandEntry("demo", "demo", "Run a small job that discovers its own work.", "demo"),
        "run": CommandEntry(
            "run", "run", "Run a job to completion and print its cost.", "run job.yaml", ("job", "task")
        ),
        "manager": CommandEntry("manage", "manager", "Manage a state directory until stopped.", "manager"),
        "submit": CommandEntry(
            "submit", "submit", "Submit a job and print its id.", "submit nightly -- make all", ("job", "task")
        ),
        "add": CommandEntry(
            "add",
            "add",
            "Add tasks to a job; an ended job is reopened.",
            "add nightly -- make report",
            ("added task", "task"),
        ),
    },
    "See what happens": {
        "status": CommandEntry(
            "status", "status", "Show all jobs, or one job with its tasks.", "status nightly", ("choice",)
        ),
        "wait": CommandEntry("wait", "wait", "Wait for jobs to end.", "wait nightly --timeout 1h"),
        "logs": CommandEntry("logs", "logs", "Print the output of a job's tasks.", "logs nightly --follow"),
        "explain": CommandEntry(
            "explain",
            "explain",
            "Explain why a job or task is not running, or how it ended.",
            "explain nightly",
        ),
        "shell": CommandEntry("shell", "shell", "Open a shell beside a running task.", "shell nightly load"),
        "history": CommandEntry(
            "history", "history", "Show the runs of a job that runs many times.", "history nightly"
        ),
        "report": CommandEntry(
            "report",
            "report",
            "Report the cost of runs, compared with an always-on pool.",
            "report --since 7d --by day",
        ),
    },
    "Move files": {
        "workspace": CommandEntry(
            "workspace", "workspace", "Move files into a job's workspace, and out of it.", "workspace pull census"
        ),
    },
    "Steer jobs": {
        "cancel": CommandEntry("verbs", "cancel", "Cancel jobs, or one task of a job.", "cancel nightly", ("choice",)),
        "pause": CommandEntry(
            "verbs", "pause", "Pause jobs: running tasks finish, no new task starts.", "pause nightly", ("choice",)
        ),
        "resume": CommandEntry("verbs", "resume", "Resume paused jobs.", "resume nightly", ("choice",)),
        "retry": CommandEntry(
            "verbs", "retry", "Retry failed, cancelled and skipped tasks.", "retry nightly", ("choice",)
        ),
        "approve": CommandEntry(
            "answers", "approve", "Approve what a task asks; its job goes on.", "approve nightly deploy"
        ),
        "reject": CommandEntry(
            "answers", "reject", "Reject what a task asks; the task fails.", 'reject nightly deploy --reason "too late"'
        ),
        "rerun": CommandEntry(
            "verbs", "rerun", "Run tasks again, those that succeeded too.", "rerun nightly load --downstream"
        ),
        "confirm-gone": CommandEntry(
            "verbs", "confirm_gone", "Confirm that a job's unreachable runners have ended.", "confirm-gone nightly"
        ),
    },
    "Let jobs run by themselves": {
        "schedule": CommandEntry(
            "schedule", "schedule", "Let jobs run by themselves at given times.", "schedule apply nightly.yaml"
        ),
        "backfill": CommandEntry(
            "backfill",
            "backfill",
            "Create the runs that a schedule would have had.",
            "backfill nightly --from 2026-01-01 --to 2026-01-31",
        ),
    },
    "Let agents use it": {
        "mcp": CommandEntry("mcp_server", "serve_mcp", "Offer jobs as tools to an agent (MCP), over stdio.", "mcp"),
    },
    "Look after a state directory": {
        "prune": CommandEntry("prune", "prune", "Archive or delete ended jobs.", "prune --older-than 30d --dry-run"),
        "notify": CommandEntry("notify", "notify", "Send a test notification to a target.", "notify ops"),
        "token": CommandEntry(
            "token", "token", "Create, list and revoke tokens for page and API.", "token create anna --role submitter"
        ),
        "login": CommandEntry(
            "login", "login", "Store the token for a manager's server.", "login https://air.example.com"
        ),
        "doctor": CommandEntry(
            "doctor", "doctor", "Check the settings, the volume, the backend and the jobs.", "doctor --backend docker"
        ),
        "schema": CommandEntry("schema", "schema", "Print the JSON Schema of job files.", "schema > job.schema.json"),
        "completion": CommandEntry(
            "completion", "completion", "Print or install a shell completion script.", "completion bash --install"
        ),
        "help": CommandEntry("help", "show_help", "Show the help of the program or of a command.", "help run"),
    },
}
"""All commands by section, in the order of the help text."""

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
ALIASES = {"ls": "status", "ps": "status"}
"""Words that people type for a command; they are not in the list."""
