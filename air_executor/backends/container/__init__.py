"""What the container backends, `docker` and `kubernetes`, share. Imports no platform's library."""
