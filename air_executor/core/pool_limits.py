"""The limits of pools: those that the operator sets, and one run at a time for each cache that is not shared."""

from __future__ import annotations

from collections.abc import Mapping

from air_executor.model.caches import CACHE_POOL


def limit_of(limits: Mapping[str, int], pool: str) -> int | None:
    """Return the weights that may run together in a pool; None: any."""
    return limits.get(pool, 1 if pool.startswith(CACHE_POOL) else None)


def pool_text(pool: str) -> str:
    """Return the pool for people."""
    return f"cache {pool.removeprefix(CACHE_POOL)}" if pool.startswith(CACHE_POOL) else f"pool {pool}"
