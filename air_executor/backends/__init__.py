"""Platforms that carry runners. Each module knows one platform, and nothing else of it leaks out."""
