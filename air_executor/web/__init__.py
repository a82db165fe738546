"""What a manager serves on its port: metrics, probes, and the page."""
