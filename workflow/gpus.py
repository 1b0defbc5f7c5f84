"""List the GPUs that runs share on this machine, and lease one of them to a process."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from inpaint_lib.study import files


def list_gpus(device, each=1):
    """Return the GPUs that runs share, by their CUDA names, `each` times; [] if the user chose one.

    Raises ValueError for a chosen one that runs shall share.
    """
    if device not in ("auto", "cuda"):
        if each > 1:
            how = f"set machine.device=cuda, or use --jobs {each}"
            raise ValueError(f"--runs-per-gpu {each}: machine.device={device}: {how}")
        return []
    import torch  # seconds, which a process that only executes a notebook saves

    n, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if n:
        make_lock_folder()  # refused now, not in every job
    if visible is None:
        names = [str(k) for k in range(n)]
    else:
        names = [name.strip() for name in visible.split(",")][:n]
    return names * each


def make_lock_folder():
    """Return this user's folder of locks. Raises PermissionError if it is another user's."""
    path = Path(tempfile.gettempdir()) / f"inpaint-gpus-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user: set TMPDIR to a folder of your own")
    return path


@contextlib.contextmanager
def lease(names):
    """Wait for one of the GPUs in `names` ("0,1"), hold it and yield its name; without names, None.

    A name that is listed N times is leased to N processes at a time. The lease is a file's lock:
    all studies of a user on this machine see it, and it ends when its holder dies.
    """
    if not names:
        yield None
        return
    names, waiting = names.split(","), False
    slots = [f"{name.replace('/', '_')}.{names[:k].count(name)}" for k, name in enumerate(names)]
    while True:
        for name, slot in zip(names, slots, strict=True):
            with files.lock(make_lock_folder(), f"{slot}.lock", wait=False) as held:
                if held:
                    yield name
                    return
        if not waiting:
            print(f"  wait    for one of the GPUs {', '.join(dict.fromkeys(names))}", flush=True)
            waiting = True
        time.sleep(0.2)
