"""The command.

    air-carrier fetch      before the task starts: claim the run, then fetch runner, inputs and workspace
    air-carrier deliver    beside the task: deliver output and queued lines as they come, the rest once it has ended
    air-carrier carry      both, one after the other

Exit status: 0 done; 96 it cannot be done, which stderr explains; 97 another runner has the run.

Variables:
    AIR_CARRIER_URL       address of the manager, such as http://air-executor:8080
    AIR_CARRIER_TOKEN     token of the run
    AIR_CARRIER_HOLDER    who asks: the same for both commands of one pod, and for no other pod
    AIR_CARRIER_CA        certificates (PEM) to trust besides the system's
    AIR_CARRIER_PATIENCE  seconds for which a manager that does not answer is waited for
    AIR_CARRIER_ROOT      folder of the run's files
    AIR_CARRIER_SIGNALED  set: SIGTERM says that the runner has ended, whose processes cannot be seen from here
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from .delivering import deliver
from .fetching import fetch
from .folders import Folders
from .uplink import CONFLICT, AnswerError, Uplink, say

CANNOT, LOST_CLAIM = 96, 97


def main(words: list[str], env: Mapping[str, str]) -> int:
    """Do what the first word says; return the exit status."""
    commands = {"fetch": [fetch], "deliver": [deliver], "carry": [fetch, deliver]}.get(" ".join(words))
    if commands is None:
        say("usage: air-carrier fetch|deliver|carry")
        return 2
    try:
        manager, folders = Uplink(env), Folders(env.get("AIR_CARRIER_ROOT", "/air"))
        for command in commands:
            command(manager, folders)
    except AnswerError as error:
        say(str(error))
        return LOST_CLAIM if error.status == CONFLICT else CANNOT
    except (OSError, KeyError, ValueError) as error:
        say(f"{type(error).__name__}: {error}")
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
