"""Draw README's picture, docs/graph.svg, from a real run: `python docs/graph.py`, with the tools of `dev`.

The job looks for work, and some of what it finds turns out to be more: those tasks queue further ones. The picture is
that of the job's page in the middle of the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from air_executor.client import Client
from air_executor.core.task_graph import task_graph
from air_executor.web.graph_layout import placed
from air_executor.web.render import Templates

DOCS = Path(__file__).parent
JOB = """\
id: scan
max_runners: 4
tasks:
  - id: discover
    command: |
      for site in berlin lagos lima oslo; do
        air-queue --id "scan-$site" -- sh scan.sh "$site"
      done
  - {id: lint, command: sleep 0.1}
  - {id: merge, after: [discover], command: sleep 0.1}
  - {id: publish, after: [merge, lint], command: sleep 0.1}
"""
SCAN = """\
sleep 0.3
case $1 in
lagos) for part in north south; do air-queue --id "scan-$1-$part" -- sh scan.sh "$1-$part"; done ;;
lima) for part in old new port; do air-queue --id "scan-$1-$part" -- sleep 9; done ;;
lagos-*) for part in 1 2; do air-queue --id "scan-$1-$part" -- sleep 9; done ;;
esac
"""


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scan.yaml").write_text(JOB, encoding="utf-8")
        Path(folder, "scan.sh").write_text(SCAN, encoding="utf-8")
        environ = {**os.environ, "AIR_STATE_DIR": f"{folder}/.air-executor", "AIR_MAX_RUNNERS": "4"}
        program = [sys.executable, "-m", "air_executor", "run", "scan.yaml", "--quiet"]
        with subprocess.Popen(
            program, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            drawn = _middle(Client(environ["AIR_STATE_DIR"]))
            run.terminate()
    (DOCS / "graph.svg").write_text(drawn + "\n", encoding="utf-8")


def _middle(client: Client) -> str:
    """Return the picture once the last tasks have been found."""
    for _ in range(600):
        time.sleep(0.05)
        try:
            job = client.status("scan")
        except Exception:  # noqa: BLE001,S112 - not submitted yet
            continue
        phases = [task.phase for task in job.tasks.values()]
        if len(job.tasks) >= 15 and phases.count("running") >= 3:  # noqa: PLR2004
            return Templates().picture(placed(task_graph(job)))
    sys.exit("the job did not get that far")


if __name__ == "__main__":
    main()
