"""Runs that see no volume: inputs, workspace, output and outcome over HTTP. The other end is `runner/carrier`.

What comes is written where a run on the volume would have written it, so the manager notices no difference.
"""
