"""The files of a run, as `docs/formats.md` has them, and how many bytes may be in what tasks and runners write."""

CLAIM = "claim"
EXIT = "exit.json"
QUEUE = "queue.jsonl"
RESULT = "result.json"
LOG_TIMES = "log-times"
INPUTS = "inputs.json"
OUTCOMES = "outcomes.json"
CHANGES = ".changes"
"""What a run without a volume has sent of its workspace."""

MAX_EXIT = 64 * 1024
MAX_LOG_TIMES = 4 * 1024 * 1024
MAX_CLAIM = MAX_EXIT + MAX_LOG_TIMES
"""A claim has an outcome in it, and maybe the times of the log."""
MAX_QUEUE = 64 * 1024 * 1024
MAX_RESULT = 16 * 1024
LONGEST_RESULT = 8 * MAX_RESULT
"""Bytes of a line that may set a result, in which an escape has up to six bytes: to look into a long one takes long."""
MAX_KEPT_RESULT = 1024 * 1024
"""What is kept of a result that is refused for its size."""
MAX_PACKED_QUEUE = MAX_QUEUE + 8 * MAX_KEPT_RESULT
"""The queue file of a packed run may have the result, too."""
