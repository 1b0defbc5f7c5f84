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
from tests.conftest import repository, smooth
from tests.photos.test_inpaint import SIZE, box_hole, saved_weights

ELSEWHERE = "import sys; sys.modules['inpaint_lib'] = None\n"  # as where there is no such package
CENTRE = (SIZE // 4, SIZE // 4, SIZE // 2, SIZE // 2)


def text_of(architecture):
    templates = jinja2.FileSystemLoader(Path(card.__file__).parent / "templates")
    page = jinja2.Environment(loader=templates, trim_blocks=True).get_template("use.md.j2")
    return page.render(size=SIZE, central=models.is_central(architecture))


def programs(text):
    """The parts of a page that are code: runs of indented and blank lines."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    return [textwrap.dedent(block).strip() for block in blocks if block.strip()]


def execute(code, folder, path=""):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"PYTHONPATH": path} if path else {}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_ten_lines_export_a_network_and_ten_fill_a_photo_without_this_package(
    tmp_path, architecture
):
    text = text_of(architecture)
    assert ("central half" in text) == models.is_central(architecture)
    export, fill = programs(text)
    for code in (export, fill):
        assert len([line for line in code.splitlines() if line]) <= 10
    here, empty = tmp_path / "here", tmp_path / "empty"
    here.mkdir()
    empty.mkdir()
    path = saved_weights(here / "model.safetensors", architecture)
    execute(export, here, repository())
    (here / "model.pt2").rename(empty / "model.pt2")
    photo = smooth(SIZE, SIZE)
    Image.fromarray(photo).save(empty / "photo.png")
    execute(ELSEWHERE + fill, empty)
    wanted, _ = inpaint.fill(inpaint.load(path), photo, box_hole(photo.shape[:2], CENTRE))
    found = np.asarray(Image.open(empty / "filled.png"))
    assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= 1
