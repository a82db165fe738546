"""The runner: a native program, and a script in its place where that cannot run. Both keep one contract."""
