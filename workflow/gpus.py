"""Which GPUs this machine's runs share, and the lease of one of them by one process."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from inpaint_lib.study import files


def list_gpus(device):
    """Return the GPUs that runs share, named as CUDA names them; none if one is chosen."""
    if device not in ("auto", "cuda"):
        return []
    import torch  # here: what only starts notebooks does without

    n, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if n:
        make_lock_folder()  # refused now, not in every job
    if visible is None:
        return [str(k) for k in range(n)]
    return [name.strip() for name in visible.split(",")][:n]


def make_lock_folder():
    """Return where this user's locks lie. Raises PermissionError if it is another user's folder."""
    path = Path(tempfile.gettempdir()) / f"inpaint-gpus-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user: remove it, or set TMPDIR")
    return path


@contextlib.contextmanager
def lease(names):
    """Wait for one of the GPUs of `names` ("0,1"), hold it and yield its name; without names, None.

    A name that stands there N times is leased to N processes at a time. What is held is the lock of
    a file: all studies of a user on this machine see it, and it is free when its holder dies.
    """
    if not names:
        yield None
        return
    names, waiting = names.split(","), False
    slots = [f"{name.replace('/', '_')}.{names[:k].count(name)}" for k, name in enumerate(names)]
    while True:
        for name, slot in zip(names, slots, strict=True):
            with files.locked(make_lock_folder(), f"{slot}.lock", wait=False) as held:
                if held:
                    yield name
                    return
        if not waiting:
            print(f"  wait    for one of the GPUs {', '.join(dict.fromkeys(names))}", flush=True)
            waiting = True
        time.sleep(0.2)
