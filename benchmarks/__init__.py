"""Speed and memory of Air-Executor, next to the bare platform and to its peers. See docs/benchmarks.md."""
