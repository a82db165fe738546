"""Prometheus metrics of a manager. Imported by `wiring` and the web server, and only when there is a port."""
