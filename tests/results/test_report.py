"""The page: what it shows, and that it shows names as they are and loads nothing."""

import base64
import dataclasses
import io
import json
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from inpaint_lib.results import figures, pictures, report, select, stats, tables
from tests.results import synthetic

NASTY = "<img src=x onerror=alert(1)>"
SECTIONS = ("results", "dynamics", "stages", "pictures", "cost", "choices", "notebooks")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Return an executed notebook with prose, a figure, a widget and markup in its output."""
    node, v4 = nbformat.v4.new_notebook(), nbformat.v4
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "WIDGET"}
    Image.new("RGB", (2, 2)).save(file := io.BytesIO(), "PNG")
    pixel = base64.b64encode(file.getvalue()).decode()
    outputs = [
        v4.new_output("display_data", data={"image/png": pixel}),
        v4.new_output("display_data", data=widget),
        v4.new_output("stream", text=f"{NASTY}\n"),
    ]
    cell = v4.new_code_cell("print(1)", outputs=outputs, execution_count=1)
    node.cells = [v4.new_markdown_cell("# What is shown?\n\nProse."), cell]
    path = tmp_path_factory.mktemp("executed") / "notebook.ipynb"
    nbformat.write(node, path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory, notebook):
    results = synthetic.study(datasets=["faces"], architectures=["custom"], seeds=range(2))
    folder = tmp_path_factory.mktemp("report")
    report.save_figures(folder / "figures", figures.answer(results) | figures.heat(results))
    tables.write(results, folder / "tables")
    names = report.frames.names_of(results.runs)
    pages = [(f"Training: {n}", notebook, f"{n.replace('/', '_')}.html", n) for n in names]
    report.build(results, folder, [*pages, ("Metrics", notebook, "metrics.html", None)])
    return results, folder


def test_figures_are_saved_at_twice_their_size_and_as_vectors(tmp_path):
    image = np.zeros((2, 8, 8, 3), np.uint8)
    figure = pictures.grid({"a": image}, rows=["x", "y"], holes=np.eye(8)[None].repeat(2, 0))
    report.save_figures(tmp_path, {"one": (figure, "What to see.")})
    entry = json.loads((tmp_path / "captions.json").read_text())["one"]
    with Image.open(tmp_path / "one.png") as saved:
        assert np.allclose(saved.size, (2 * entry["width"], 2 * entry["height"]), atol=2)
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert entry["caption"] == "What to see."


def test_the_index_has_every_section_figure_verdict_and_number(built):
    results, folder = built
    text = (folder / "index.html").read_text()
    assert all(f'id="{name}"' in text for name in SECTIONS)
    captions = json.loads((folder / "figures/captions.json").read_text())
    assert all(f'<figure id="{name}">' in text for name in captions)
    assert all(verdict in text for verdict in stats.judge(results).verdict)
    means, _ = tables.paper_style(results)
    assert all(f"{value:.4f}" in text for value in means[("hole", "L1")])
    assert not re.search(r"\b(nan|None|NaN)\b", text)


def test_pages_load_nothing_and_every_link_leads_somewhere(built):
    _, folder = built
    pages = sorted(folder.rglob("*.html"))
    assert len(pages) == 1 + 8 + 1
    for page in pages:
        text = page.read_text()
        assert "<script" not in text and not re.search(r"@import|url\(", text)
        assert all(re.search(r'alt="[^"]{8,}"', tag) for tag in re.findall(r"<img [^>]*>", text))
        for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', text):
            if not link.startswith(("https:", "data:")):
                assert (page.parent / link.split("#")[0]).exists(), f"{page.name}: {link}"
        assert not re.findall(r'src="https?:', text)


def test_a_runs_page_says_where_its_numbers_come_from(built):
    results, folder = built
    text = (folder / "notebooks/faces_custom_progressive_seed1.html").read_text()
    run = results.runs.query("setup == 'progressive' and seed == 1").iloc[0]
    assert all(str(run[key]) in text for key in ("commit", "device", "precision", "protocol"))
    assert results.about["data"]["faces"]["identity"]["masks"][:16] in text
    assert 'href="faces_custom_progressive_seed0.html"' in text and "&#34;lr_g&#34;" in text
    assert "WIDGET" not in text and "figure: What is shown?" in text
    assert "<img src=x" not in text and "onerror=alert" in text


def test_what_differs_from_the_paper_is_named_and_choices_are_few(built):
    results, _ = built
    found = {what: (paper, here) for what, paper, here in report.deviations(results)}
    assert found["data.image_size"] == ("128", "32")
    assert "models.custom.lr_g" in found and not any("free_form" in what for what in found)
    assert len(report.CHOICES) <= 20
    listed = dict(report.choices(results))
    assert "adversarial" in listed["custom"] and "8, 16 px" in listed.values()


def test_names_with_markup_stay_text():
    row = dict.fromkeys(stats.COLUMNS, 0.0) | {"hypothesis": f"secondary: {NASTY}", "metric": "l1"}
    row |= {"verdict": "inconclusive", "dataset": "d", "scale": "ratio", "remark": NASTY}
    text = report.verdicts(report.pd.DataFrame([row]))["secondary"]
    assert "onerror" in text and "<img" not in text


def test_templates_take_as_markup_only_what_is_made_here():
    """Everything else is escaped."""
    templates = report.TEMPLATES.glob("*.j2")
    found = re.findall(r"{{ ([^{}]*?) \| safe }}", "".join(p.read_text() for p in templates))
    named = {name for name in found if name.isidentifier()}
    assert named == {"body", "cost", "standings", "table"}
    assert sum(not name.isidentifier() for name in set(found)) == 3  # loading, two verdict tables


@pytest.mark.parametrize("only", ["fixed", "mixed"])
def test_a_grid_of_one_setup_has_its_tables_and_page(tmp_path, only):
    results = synthetic.study(["faces"], ["custom"], [only], [0])
    tables.write(results, tmp_path)
    assert f"| {only} |" in (tmp_path / "table.md").read_text()
    assert select.effects(results).empty and stats.judge(results).empty
    report.save_figures(tmp_path / "figures", {})
    text = report.build(results, tmp_path).read_text()
    assert "no pair of setups that the primary hypothesis names" in text and only in text


def test_a_missing_figure_folder_is_named_with_the_command(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], [0])
    with pytest.raises(FileNotFoundError, match=r"captions.json.*\./run_all.sh smoke"):
        report.build(results, tmp_path)


def test_a_data_set_that_the_paper_has_is_not_called_a_deviation(built):
    results, _ = built
    about = results.about | {"data": {"celeba": results.about["data"]["faces"]}}
    named = [what for what, *_ in report.deviations(dataclasses.replace(results, about=about))]
    assert "data set celeba" not in named and "images of celeba" in named
