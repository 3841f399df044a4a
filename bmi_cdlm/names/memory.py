"""How much memory there is to take."""

from __future__ import annotations

from pathlib import Path


def available_memory() -> float:
    """Memory that a new process could have [bytes], infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return float("inf")
