"""Shared fixtures: a study small enough that a run takes a second or two."""

import os

import pytest
import torch

from inpaint_lib import runs

MICRO = {
    "train_images": 24,
    "test_images": 8,
    "total_images": 64,
    "batch_size": 4,
    "mask_widths": [8, 16],
    "log_every": 3,
    "sample_images": 4,
    "datasets": ["scenes"],
    "architectures": ["custom"],
    "setups": ["fixed", "progressive"],
    "perceptual_width": 4,
}  # 16 steps, two stages of 8


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
    """micro(**overrides) -> Study."""
    return lambda **overrides: runs.open_study("smoke", MICRO | overrides)


@pytest.fixture
def run_of():
    """run_of(study, setup) -> the study's first run with that setup."""
    return lambda study, setup="progressive": next(r for r in study.runs() if r.setup == setup)


def repository():
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
