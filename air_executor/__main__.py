"""`python -m air_executor`: the command line where its script is not on the PATH."""

from __future__ import annotations

from air_executor.cli import main

if __name__ == "__main__":
    main()
