"""air-carrier: brings a run's files to a pod that sees no volume, and what the run leaves back to its manager.

It talks to `/transport/v1` of the manager (`web/transport`). A manager that does not answer is waited for: what the
task writes stays on the pod's own disk meanwhile. It knows nothing of platforms, uses the standard library alone, and
is the package `air_carrier` of the image `runner`: its modules import nothing but each other.
"""
