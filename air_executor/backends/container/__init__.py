"""What the container backends, docker and kubernetes, share."""
