"""How many processors a job takes, so that the server beside it and other jobs have theirs."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container, in cgroups version 2: microseconds of processors in a period, and the period."""


def processors(quota: Path = _QUOTA) -> int:
    """Those that this process may use: fewer than the machine has, in a container or under taskset."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return max(1, min(have, int(allowed) // int(period)))
    except (OSError, ValueError):
        # No such file, or "max".
        return have


def share(jobs: int) -> dict[str, str]:
    """Environment of each of so many children: half of the processors is for everything else.

    Threads that wait for each other sleep: spinning, they would take the turns of those they wait for.
    """
    return {"OMP_NUM_THREADS": str(max(1, processors() // (2 * jobs))), "OMP_WAIT_POLICY": "PASSIVE"}
