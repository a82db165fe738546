"""The HTTP API: `/api/v1`. Imported with the first request to it, for FastAPI takes half a second."""
