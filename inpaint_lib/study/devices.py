"""The device that a study's work is done on, and its memory."""

import contextlib
import resource
import sys

import torch


class OutOfMemory(RuntimeError):
    """The device's memory does not suffice; the message says what to set."""


@contextlib.contextmanager
def enough_memory(config, where):
    """Raise OutOfMemory where the body runs out of the device's memory. Nothing is made smaller unasked: batch_size is part of
    the experiment. `where`: "training" or "evaluation"."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = ("out of memory", "can't allocate memory")  # MPS, the CPU: no class of their own
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not any(words in str(error) for words in said):
            raise
        cures = {
            "training": f"batch_size lower than {config.batch_size} (which changes the experiment), precision=bfloat16, "
            "loading=prefetch",
            "evaluation": f"evaluation_batch lower than {config.evaluation_batch} (which changes no result)",
        }
        raise OutOfMemory(
            f"{where} needs more memory than there is. Set one of: {cures[where]}, or fewer runs at a time (--runs-per-gpu 1 "
            "or --jobs 1). The last checkpoint is kept"
        ) from None


def choose_device(wanted):
    """'auto' -> cuda, else mps, else cpu. Raises ValueError for a device this machine lacks."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in here.items() if there))
    if not here[wanted.split(":")[0]]:
        raise ValueError(f"device: {wanted} is not available here; set device=auto or device=cpu")
    return torch.device(wanted)


def device_name(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device):
    """{"host": bytes, "device": bytes or None}: the most that this process has held so far."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"host": held, "device": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None}
