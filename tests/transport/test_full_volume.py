"""The manager's volume is full while runs deliver: they wait, and go on. Needs the right to mount."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.runner.carrier.__main__ import CANNOT
from tests.crash.test_small_volume import fill
from tests.transport.rig import PATIENCE, Site, soon

pytestmark = pytest.mark.transport


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs of eight megabytes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs Linux and root")
    folder = tmp_path / "volume"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "air-test", str(folder)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_runs_wait_while_the_volume_is_full(small: Path, tmp_path: Path) -> None:
    """A claim, output, the workspace and the outcome: each comes once there is space again, and once."""
    site = Site(small)
    ballast = small / "ballast"
    try:
        launch = site.begin()
        pod = site.pod(launch, folder=tmp_path)
        fill(ballast)
        fetching = pod.carrier("fetch")
        soon(lambda: "the volume is full" in pod.said("fetch"), "the carrier to be told")
        assert os.listdir(launch.out_dir).count("claim") == 0
        ballast.unlink()
        assert fetching.wait(PATIENCE) == 0, pod.said("fetch")

        delivering = pod.carrier("deliver")
        running = pod.run(
            "seq 100000; touch printed; while [ ! -e go ]; do sleep 0.01; done; seq 100000; seq 100000 >file"
        )
        soon((pod.workspace / "printed").exists, "the first output")
        soon(lambda: site.out(launch, "output.log").endswith(b"\n100000\n"), "all of it")
        fill(ballast)
        (pod.workspace / "go").touch()
        assert running.wait(PATIENCE) == 0
        soon(lambda: "No space left" in pod.said() or "the volume is full" in pod.said(), "the carrier to be told")
        assert delivering.poll() is None
        ballast.unlink()
        assert delivering.wait(PATIENCE) == 0, pod.said()
        numbers = b"".join(b"%d\n" % number for number in range(1, 100_001))
        assert site.out(launch, "output.log") == 2 * numbers
        assert (site.workspace(launch) / "file").read_bytes() == numbers
        site.commit(launch)
        assert site.world.job("job").phase == "succeeded"
    finally:
        site.close()


def test_a_pod_whose_own_disk_is_full(site: Site, small: Path) -> None:
    """It gives up at once and says so: no waiting for the manager would help."""
    launch = site.begin()
    with open(site.workspace(launch) / "large", "wb") as file:
        file.truncate(16 << 20)
    pod = site.pod(launch, folder=small)
    assert pod.fetch() == CANNOT
    assert "No space left on device" in pod.said("fetch").splitlines()[-1]
