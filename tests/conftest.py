"""Shared fixtures: a study small enough that a run takes a second or two."""

import os
import shutil
import signal
import subprocess

import hypothesis

# of every process of the tests: they run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_lib.study import grid
from inpaint_lib.training import loop

MICRO = {
    "data.train_images": 24,
    "data.test_images": 8,
    "curriculum.total_images": 64,
    "curriculum.batch_size": 4,
    "curriculum.mask_widths": [8, 16],
    "training.log_every": 3,
    "training.perceptual_width": 4,
    "grid.datasets": ["clutter"],
    "grid.architectures": ["custom"],
    "grid.setups": ["fixed", "progressive"],
    "machine.device": "cpu",  # equal bytes on any machine
}  # 16 steps, two stages of 8

# --hypothesis-profile=thorough looks far longer for what breaks
hypothesis.settings.register_profile("quick", max_examples=40, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("quick")


# the slowest files first: side by side, all then end together
SLOWEST = (
    "workflow notebooks browser report_browser train bench published learning refusals painter "
    "card weights evaluate extensions step stats fid"
).split()


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=3, help="how often the tests of `drill` kill")


@pytest.fixture
def kills(request):
    return request.config.getoption("--kills")


def pytest_collection_modifyitems(config, items):
    rank = {f"test_{name}.py": k for k, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    if "drill" not in config.option.markexpr:  # minutes, on demand
        for item in [item for item in items if item.get_closest_marker("drill")]:
            item.add_marker(pytest.mark.skip(reason="a drill: pytest -m drill --kills N"))


def pytest_configure():
    """Let interrupts arrive, which a shell's background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def output(tmp_path, monkeypatch):
    """An empty folder for runs/ and reports/, also for child processes."""
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    return tmp_path


@pytest.fixture
def micro(output):
    """micro({"dotted.key": value}) -> Study."""
    return lambda overrides=None: grid.open_study("smoke", MICRO | (overrides or {}))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder of output with the finished runs of the micro study: for reading and copying."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(place))
        for run in grid.open_study("smoke", MICRO).runs():
            loop.fit(run, lambda *_: None)
    return place


@pytest.fixture
def copied(finished, output):
    """The folder for output, with a copy of the finished runs."""
    return shutil.copytree(finished, output, dirs_exist_ok=True)


@pytest.fixture
def asked(capfd):
    """asked(*arguments) -> (exit code, stdout, stderr) of a command, run in this process."""
    from workflow import __main__ as command  # needs packages that tests on a card do without

    def ask(*arguments):
        capfd.readouterr()
        code = command.main([*map(str, arguments)])
        return code, *capfd.readouterr()

    return ask


@pytest.fixture
def run_of():
    """run_of(study, setup) -> the study's first run with that setup."""
    return lambda study, setup="progressive": next(r for r in study.runs() if r.setup == setup)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """disk(size) mounts a RAM disk as the place of all output, or gives it another size or mode."""
    place = tmp_path / "disk"
    place.mkdir()
    monkeypatch.setenv("INPAINT_OUTPUT", str(place))

    def mount(size, mode="rw"):
        options = f"size={size},{mode}" + (",remount" if os.path.ismount(place) else "")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("a RAM disk cannot be mounted here (not root?)")
        return place

    yield mount
    while os.path.ismount(place):
        subprocess.run(
            ["umount", "--lazy", str(place)], check=True
        )  # a mapped pack may still hold it


def repository():
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def snapshot(folder):
    """Return {path: (content, time)} of all files; locks are nobody's work."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def smooth(height, width, seed=0):
    """A smooth colour image, (height, width, 3) uint8, different for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [
        np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)
    ]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


def photograph(path, side):
    """Write a photograph of 3 side^2 bytes."""
    noise = np.random.default_rng(0).integers(0, 60, (side, side, 3), np.uint8)
    Image.fromarray(smooth(side, side) // 2 + noise).save(path, compress_level=0)
    return path


def lanczos(pixels, size):
    """The central square of (H, W, 3) at `size`: an antialiased Lanczos-3 filter as two products.

    Pixels are clipped between the two, so their order matters: both results, as a list.
    """
    across, down = (_weights(n, min(pixels.shape[:2]), size) for n in pixels.shape[1::-1])
    steps = [
        lambda a: np.einsum("ij,kjc->kic", across, a).clip(0, 255),
        lambda a: np.einsum("ij,jkc->ikc", down, a).clip(0, 255),
    ]
    return [second(first(pixels.astype(float))) for first, second in (steps, steps[::-1])]


def distance(pixels, expected):
    """Absolute difference in grey levels to the nearer of `expected`."""
    return min((np.abs(pixels.astype(float) - other) for other in expected), key=np.max)


def _weights(n, side, size):
    """The weight of each of n pixels in each of `size` over the central `side`: (size, n)."""
    scale = max(side / size, 1)
    centres = (n - side) // 2 + (np.arange(size) + 0.5) * side / size
    distance = (np.arange(n)[None] + 0.5 - centres[:, None]) / scale
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(1, keepdims=True)
