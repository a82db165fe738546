"""What the page costs who looks at it: a job of 5,000 tasks in a real Chromium, opened and scrolled through.

Needs `playwright` and Debian's `chromium`; without them the row is skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.place import Place
from benchmarks.table import Line, Row

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TASKS = 5000
STEPS = 150
"""Turns of the wheel, each a window's height."""
_LONG_TASKS = """
window.long = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.long.push(entry.duration);
}).observe({ type: "longtask", buffered: true });
"""
_SCROLL = """async (steps) => {
  window.long.length = 0;
  const frames = [];
  let last = performance.now();
  for (let step = 0; step < steps; step++) {
    scrollBy(0, innerHeight);
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames;
}"""


def page(*, quick: bool) -> Sequence[Line]:
    """Measure from asking for the page of a large job until it is loaded and painted, then frames while scrolling."""
    path = shutil.which("chromium")
    if path is None:
        return [Line("page", f"a job of {TASKS} tasks: open, s", None, note="no chromium here")]
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only this row needs it

    tasks, repeats = (500, 2) if quick else (TASKS, 5)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with Place(AIR_MAX_RUNNERS="4", AIR_HTTP_PORT=str(port)) as place:
        place.submit("large", [["true"]] * tasks, max_runners=4)
        place.start()
        place.wait(["large"])
        address = f"http://127.0.0.1:{port}/jobs/large"
        with sync_playwright() as playwright:
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=path, args=flags)
            opened = [_open(browser, address) for _ in range(repeats)]
            frames, long = _scroll(browser, address)
            browser.close()
    at = f"a job of {tasks} tasks"
    worst = max(long, default=0.0)
    note = f"{len(long)} tasks of more than 50 ms, the longest {worst:.0f}"
    return [
        Line("page", f"{at}: open, s", statistics.median(opened), 2, at_most=True, detail={"all": opened}),
        Line("page", f"{at}: scroll, median ms a frame", statistics.median(frames), 34, at_most=True, note=note),
    ]


def _open(browser: Browser, address: str) -> float:
    """Return seconds until a fresh window has loaded and painted the page."""
    window = browser.new_page()
    begun = time.monotonic()
    window.goto(address)
    window.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    took = time.monotonic() - begun
    window.close()
    return took


def _scroll(browser: Browser, address: str) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each frame, and those of what blocked the page for more than 50."""
    window = browser.new_page()
    window.add_init_script(_LONG_TASKS)
    window.goto(address)
    frames = window.evaluate(_SCROLL, STEPS)
    long = window.evaluate("window.long")
    window.close()
    return frames, long


ROWS = (Row("page", page),)
