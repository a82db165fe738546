"""What a manager does, as numbers for Prometheus. Only `wiring` and the web server import it, where there is a port."""
