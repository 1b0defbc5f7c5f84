"""The device that a study is computed on, and its memory."""

import contextlib
import resource
import sys

import torch


class OutOfMemory(RuntimeError):
    """There is not enough memory; the message says what to set."""


@contextlib.contextmanager
def explain_out_of_memory(config):
    """Raise OutOfMemory, which says what to set, if the body runs out of memory.

    Nothing is made smaller automatically: batch_size is part of the experiment.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "not enough memory: run fewer at a time (--runs-per-gpu 1 or --jobs 1), or set "
            f"machine.evaluation_batch lower than {config.machine.evaluation_batch}, "
            "machine.loading=prefetch, training.precision=bfloat16 or curriculum.batch_size lower "
            f"than {config.curriculum.batch_size} (the last two change the experiment). "
            "The last checkpoint is kept"
        ) from None


def is_out_of_memory(error):
    """Return whether an exception of Python, torch or OpenCV says that memory is missing."""
    # MPS, the CPU and OpenCV have no class of their own for it
    words = "out of memory", "can't allocate memory", "Insufficient memory"
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        of in str(error) for of in words
    )


def choose_device(wanted):
    """Return the torch.device `wanted`; 'auto': cuda, else mps, else cpu.

    Raises ValueError for a device that this machine lacks.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, there in here.items() if there))
    kind, _, index = wanted.partition(":")
    if not here[kind] or (index and int(index) >= torch.cuda.device_count()):
        raise ValueError(f"machine.device={wanted} is not available: set it to auto or cpu")
    return torch.device(wanted)


def get_device_name(device):
    """Return the name of a GPU, or "cpu" or "mps"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measure_peak_memory(device):
    """Return the peak memory of this process so far: {"host": bytes, "device": bytes or None}."""
    unit = 1 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    cuda = device.type == "cuda"
    return {"host": held, "device": torch.cuda.max_memory_allocated(device) if cuda else None}
