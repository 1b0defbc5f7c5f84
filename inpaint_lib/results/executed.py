"""Turn executed notebooks into pages of the report. Pictures lie beside them, each once."""

import base64
import hashlib
import html
import io
import re

import nbconvert
import nbformat
from PIL import Image

from ..study import files
from . import layout

WIDGET = "application/vnd.jupyter.widget-view+json"  # needs a kernel: its static picture stays
COLOURS = 64  # of a notebook's picture
PLAIN = re.compile(r'<span class="(?:n|p|o|w|nn|nb|nf|ow|nc|fm)">([^<]*)</span>')
STYLE = re.compile(r"<style scoped>.*?</style>", re.DOTALL)  # pandas'
NOTES = {  # tag of a cell: the note above it
    "parameters": "*The notebook's defaults. They are replaced: the next cell holds.*",
    "injected-parameters": "*The values of this run.*",
}
WAITING = "waiting for another process"


def convert(notebook, page, title, neighbours, run=None):
    """Write an executed notebook as a page.

    neighbours: the notebooks before and after it, as report.build has them, or None; run: the
    address of its run's page."""
    node = nbformat.read(notebook, as_version=4)
    node.metadata.pop("widgets", None)
    section, pictures, cells = title, page.parent / "images", []
    tags = [set(cell.metadata.get("tags", [])) & set(NOTES) for cell in node.cells]
    said = NOTES if {"injected-parameters"} in tags else {}
    for cell, tag in zip(node.cells, tags, strict=True):
        if cell.cell_type != "code":
            headings = [line.strip("# ") for line in cell.source.splitlines() if line[:1] == "#"]
            section = (headings or [section])[-1]
        else:
            folded = cell.metadata.get("jupyter", {}).get("outputs_hidden")
            shown = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            cell.outputs = [_output(output, section, pictures, folded) for output in shown]
            cells += [nbformat.v4.new_markdown_cell(said[name]) for name in tag if name in said]
        cells.append(cell)
    node.cells = cells
    exporter = nbconvert.HTMLExporter(template_name="basic")
    body = PLAIN.sub(r"\1", exporter.from_notebook_node(node)[0])
    shown = {"title": title, "neighbours": neighbours, "run": run, "body": body}
    files.write_text(page, layout.render_page("page.html", "../", **shown))


def _output(output, section, folder, folded):
    """Return an output: its picture as a file, repeated waiting lines once, frames folded."""
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        seen = [line for line in lines if line.startswith(WAITING)]
        kept = [line for line in lines if line not in seen]
        output.text = "".join([*dict.fromkeys(seen), *kept])
    if png := output.get("data", {}).get("image/png"):
        name, (width, height) = _picture(base64.b64decode(png), folder)
        size = f'width="{width}" height="{height}" loading="lazy"'
        alt = html.escape(f"figure: {section}")
        output.data = {"text/html": f'<img src="images/{name}" alt="{alt}" {size}>'}
    elif frame := output.get("data", {}).get("text/html"):
        frame = STYLE.sub("", frame)
        name = f"table: {html.escape(section)}"
        fold = f"<details><summary>{name}</summary>{frame}</details>"
        output.data = {"text/html": fold if folded else frame}
    return output


def _picture(content, folder):
    """Write a picture with few colours, once -> (name, size)."""
    name = hashlib.sha256(content).hexdigest()[:16] + ".png"
    with Image.open(io.BytesIO(content)) as image:
        if not (folder / name).is_file():
            with files.replace(folder / name) as temporary:
                reduce_colours(image, COLOURS).save(temporary, "PNG", optimize=True)
        return name, image.size


def reduce_colours(image, n):
    """Return an opaque picture with a palette of n colours."""
    return image.convert("RGB").quantize(n, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
