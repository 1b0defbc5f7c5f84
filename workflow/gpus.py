"""Which GPUs this machine's runs share, and the lease of one of them by one process."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections import Counter
from pathlib import Path


def found(device):
    """The GPUs that runs with the configuration's `device` may use, named as CUDA_VISIBLE_DEVICES names them: numbers, UUIDs,
    MIG instances. None for the CPU, and none for one that the user chose, as cuda:1."""
    if device not in ("auto", "cuda"):
        return []
    import torch  # here: what only starts notebooks does without

    n = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in visible.split(",")][:n] if visible is not None else [str(k) for k in range(n)]


def folder():
    """Where the locks lie: this user's, the same for all studies. Raises PermissionError if it is another user's."""
    path = Path(tempfile.gettempdir()) / f"inpaint-gpus-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user: remove it, or set TMPDIR")
    return path


@contextlib.contextmanager
def leased(names):
    """Hold one of the GPUs of `names`, separated by commas, and yield its name, waiting until one is free; without names, None.

    A name may stand there N times: it is then leased to N processes at a time. What is held is a file's lock: all studies of a
    user on this machine see it, and the system frees it when its holder dies.
    """
    if not names:
        yield None
        return
    slots, seen = [], Counter()
    for name in names.split(","):
        seen[name] += 1
        slots.append((name, folder() / f"{name.replace('/', '_')}.{seen[name]}.lock"))
    waiting = False
    while True:
        for name, path in slots:
            with open(path, "a", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield name
                return
        if not waiting:
            print(f"  wait    for one of the GPUs {', '.join(seen)}", flush=True)
            waiting = True
        time.sleep(0.2)
