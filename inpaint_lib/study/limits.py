"""The cores and the memory that this process may use."""

import contextlib
import os
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")


def count_cores():
    """Return the number of cores: the least of machine, affinity and control group."""
    linux = hasattr(os, "sched_getaffinity")
    found = [len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1]
    for quota, period in _quotas(("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        found.append(-(-quota // period))  # half a core is one
    return max(1, min(found))


def measure_memory():
    """Return the bytes of memory: the lesser of machine and control group."""
    found = [psutil.virtual_memory().total]
    found += [of[0] for of in _quotas(("memory.max",), ("memory.limit_in_bytes",))]
    return min(found)


def _quotas(*names):
    """Yield the numbers in these files of this process's control groups (versions 2 and 1)."""
    groups = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            place = GROUPS / controllers / path.lstrip("/")
            groups |= {place, *place.parents, *(GROUPS / c for c in controllers.split(","))}
    for group in (group for group in groups if group.is_relative_to(GROUPS)):
        for files in names:
            with contextlib.suppress(OSError, ValueError):  # "max": no quota
                text = " ".join((group / name).read_text(encoding="utf-8") for name in files)
                numbers = [int(word) for word in text.split()]
                if numbers[0] > 0:  # version 1: -1 is no quota
                    yield numbers
