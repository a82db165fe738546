"""Clients: submit jobs, send requests, read states, over files or over HTTP.

`Client` works on the files of a state directory and needs no manager; `ServerClient` asks a manager's server. Both keep
the promises of `JobAccess`, so that the command line is the same for both.
"""

from __future__ import annotations

from air_executor.client.directory_client import Client
from air_executor.client.functions import cancel, status, submit, wait
from air_executor.client.job_access import Answer

__all__ = ["Answer", "Client", "cancel", "status", "submit", "wait"]
