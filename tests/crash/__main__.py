"""The crash campaign: `python -m tests.crash --trials 200 --seed 1`.

Runs trials that kill managers and runners at random instants, and checks by the tasks' own markers that nothing was
lost, doubled or overlapped. Trial i uses seed + i, so `--seed S --trials 1` repeats one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.crash import plan, trial


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign and return its exit code: 1 if any promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the first trial; the next ones count up from it")
    parser.add_argument("--backend", choices=[*plan.TARGETS], default="local", help="where runners run")
    parser.add_argument("--faults", type=float, default=0.0, help="probability that a call of the store fails")
    parser.add_argument(
        "--engine-restarts",
        type=float,
        default=0.0,
        help="probability that a trial stops or kills the Docker Engine and starts it again: all that run there suffer",
    )
    parser.add_argument(
        "--cluster-restarts",
        type=float,
        default=0.0,
        help="probability that a trial stops or kills the API server or etcd and starts it again: the same",
    )
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--folder", help="where trials work, and stay if they fail (default: a temporary one)")
    chosen = parser.parse_args()
    folder = chosen.folder or tempfile.mkdtemp(prefix="air-crash-")
    os.makedirs(folder, exist_ok=True)
    begun = time.monotonic()
    seeds = range(chosen.seed, chosen.seed + chosen.trials)
    done: list[trial.Outcome] = []
    restarts = chosen.cluster_restarts if chosen.backend.startswith("kubernetes") else chosen.engine_restarts
    how = (chosen.faults, folder, chosen.backend, restarts)
    flags = "".join(
        f" --{name.replace('_', '-')} {value}"
        for name, value in vars(chosen).items()
        if name in ("backend", "faults", "engine_restarts", "cluster_restarts") and value != parser.get_default(name)
    )
    with ProcessPoolExecutor(chosen.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(trial.run_seed, seed, *how) for seed in seeds]):
            if future.exception():  # the campaign itself is broken
                pool.shutdown(cancel_futures=True)
            outcome = future.result()
            done.append(outcome)
            if outcome.violations:
                again = f"python -m tests.crash --seed {outcome.seed} --trials 1{flags}"
                _say(f"FAILED seed {outcome.seed} (kept in {folder}/{outcome.seed}; again: {again})")
                for violation in outcome.violations:
                    _say(f"    {violation}")
    failed = sum(bool(outcome.violations) for outcome in done)
    _say(
        f"{len(done)} trials, seeds {seeds.start} to {seeds.stop - 1}: {failed} failed; "
        f"{sum(o.managers for o in done)} managers started, {sum(o.manager_kills for o in done)} killed; "
        f"{sum(o.runner_kills for o in done)} runners or tasks killed; "
        f"{sum(o.interruptions for o in done)} interruptions of the platform; {sum(o.tasks for o in done)} tasks in "
        f"{sum(o.runs for o in done)} runs; {time.monotonic() - begun:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
