"""The code printed in a model card works as it is printed."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

from inpaint_lib import models
from inpaint_lib.evaluation import card
from inpaint_lib.photos import inpaint
from tests.conftest import smooth
from tests.photos.test_inpaint import SIZE, box_hole, saved_weights

ELSEWHERE = """import os, sys
sys.modules["inpaint_lib"] = None  # as where there is no such package
for folder, fill in {}:
    os.chdir(folder)
    exec(fill, {{}})
"""
CENTRE = (SIZE // 4, SIZE // 4, SIZE // 2, SIZE // 2)


def text_of(architecture):
    templates = jinja2.FileSystemLoader(Path(card.__file__).parent / "templates")
    page = jinja2.Environment(loader=templates, trim_blocks=True).get_template("use.md.j2")
    return page.render(size=SIZE, central=models.is_central(architecture))


def programs(text):
    """The parts of a page that are code: runs of indented and blank lines."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    return [textwrap.dedent(block).strip() for block in blocks if block.strip()]


@pytest.mark.slow
def test_ten_lines_export_a_network_and_ten_fill_a_photo_without_this_package(
    tmp_path, monkeypatch
):
    photo, fills = smooth(SIZE, SIZE), []
    for architecture in models.ARCHITECTURES:
        text = text_of(architecture)
        assert ("central half" in text) == models.is_central(architecture)
        export, fill = programs(text)
        for code in (export, fill):
            assert len([line for line in code.splitlines() if line]) <= 10
        here, empty = tmp_path / "here" / architecture, tmp_path / architecture
        here.mkdir(parents=True)
        empty.mkdir()
        saved_weights(here / "model.safetensors", architecture)
        monkeypatch.chdir(here)
        exec(compile(export, "export", "exec"), {})
        (here / "model.pt2").rename(empty / "model.pt2")
        Image.fromarray(photo).save(empty / "photo.png")
        fills.append((str(empty), fill))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", ELSEWHERE.format(fills)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    hole = box_hole(photo.shape[:2], CENTRE)
    for architecture in models.ARCHITECTURES:
        path = tmp_path / "here" / architecture / "model.safetensors"
        wanted, _ = inpaint.fill(inpaint.load(path), photo, hole)
        found = np.asarray(Image.open(tmp_path / architecture / "filled.png"))
        assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= 1
