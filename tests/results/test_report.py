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

from inpaint_lib.results import (
    figures,
    notes,
    pictures,
    report,
    select,
    standing,
    stats,
    summary,
    tables,
)
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
    report.save_figures(folder / "figures", figures.draw(results, "answer", "heat", "grid"))
    tables.write(results, folder / "tables")
    names = report.frames.names_of(results.runs)
    pages = [(f"Training: {n}", notebook, f"{n.replace('/', '_')}.html", n) for n in names]
    report.build(results, folder, [*pages, ("Metrics", notebook, "metrics.html", None)])
    return results, folder


def page_of(results, folder, figures=()):
    report.save_figures(folder / "figures", dict(figures), pdf=False)
    return report.build(results, folder).read_text()


def test_figures_are_saved_at_twice_their_size_and_as_vectors(tmp_path):
    image = np.zeros((2, 8, 8, 3), np.uint8)
    figure = pictures.grid({"a": image}, rows=["x", "y"], holes=np.eye(8)[None].repeat(2, 0))
    report.save_figures(tmp_path, {"one": (figure, "What to see.")})
    entry = json.loads((tmp_path / "captions.json").read_text())["one"]
    with Image.open(tmp_path / "one.png") as saved:
        assert np.allclose(saved.size, (2 * entry["width"], 2 * entry["height"]), atol=2)
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert entry["caption"] == "What to see."


def test_the_index_has_every_section_figure_answer_and_number(built):
    results, folder = built
    text = (folder / "index.html").read_text()
    assert all(f'id="{name}"' in text for name in SECTIONS)
    captions = json.loads((folder / "figures/captions.json").read_text())
    assert all(text.count(f'<figure id="{name}">') == 1 for name in captions)
    for answer in notes.answers(stats.judge(results)):
        assert f"{answer['question']}: {answer['name']}" in text
        assert answer["text"] in text and answer["cells"][0]["text"] in text
    means = tables.table(results).query("region == 'hole' and metric == 'l1'")["mean"]
    assert all(f"{value:.4f}" in text for value in means)
    for words in ("10-20 %", "up to 12 px", "2 of 2; D 0.70, share 0.30", "(first 4)"):
        assert words in text
    assert text.count("weights not available") == 1
    assert not re.search(r"\b(nan|None|NaN)\b", text)


def test_the_page_opens_with_holes_filled_where_the_baselines_are_beaten(tmp_path):
    level = {"custom": 0.5, "context_encoder": 0.12, "free_form": 0.09}  # custom beats nothing
    results = synthetic.study(datasets=["faces"], seeds=[0], level=level)
    drawn = figures.draw(results, "answer", "grid")
    text = page_of(results, tmp_path, drawn)
    assert re.findall(r'<figure id="([^"]*)">', text)[0] == "sizes_faces_free_form"
    assert text.index("Q3: ") < text.index("<figure")
    assert summary.opening(results, standing.of_runs(results)) == "sizes_faces_free_form"
    worse = synthetic.with_rows(results, "per_image", "image >= 0", l2=9.0)
    assert summary.opening(worse, standing.of_runs(worse)) is None
    assert "grid_" not in page_of(worse, tmp_path / "worse", {}).split('id="results"')[0]


def test_words_and_badges_stand_on_the_cards_of_a_registered_study(tmp_path):
    setups = ["fixed", "progressive", "mixed"]
    cell = {"datasets": ["faces"], "architectures": ["custom"]}
    results = synthetic.study(**cell, setups=setups, seeds=range(3), profile="small", noise=1e-4)
    text = page_of(results, tmp_path)
    first = text[: text.index("</ul>")]
    assert "Supported in 1." in first
    assert first.count('<span class="badge">exploratory, provisional</span>') == 3
    assert '<b class="supported">supported</b>: the gain is larger than 2 %' in first
    readme = summary.page(results)
    assert (
        "(exploratory, provisional)" in readme
        and "supported: the gain is larger than 2 %;" in readme
    )


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
    assert results.about["data"]["faces"]["identity"]["masks"] in text
    assert 'href="faces_custom_progressive_seed0.html"' in text and "&#34;lr_g&#34;" in text
    assert "WIDGET" not in text and "figure: What is shown?" in text
    assert "<img src=x" not in text and "onerror=alert" in text


def test_what_differs_from_the_paper_is_read_from_the_whole_configuration(built):
    results, _ = built
    found = {what: (paper, here) for what, paper, here in report.deviations(results)}
    assert found["data.image_size"] == ("128", "32")
    for key in ("curriculum.total_images", "curriculum.mask_widths", "curriculum.batch_size"):
        assert key in found
    assert found["evaluation.fid_stages"] == ("all", "last")
    assert {"models.custom.lr_g", "models.custom.widths.generator_width"} <= set(found)
    assert not any("free_form" in what for what in found)
    assert found["grid.datasets"] == ("celeba, coco", "faces") and len(report.CHOICES) <= 20
    listed = dict(report.choices(results))
    assert listed["curriculum.mask_widths"] == "8, 12, 16"
    assert "models.custom.loss_weights.adversarial" in listed


def test_names_with_markup_stay_text(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], [0])
    about = results.about | {"left_out": {NASTY: NASTY}}
    for name in ("runs", *report.frames.SHARDED):
        results = synthetic.with_rows(results, name, "seed == 0", setup=NASTY)
    text = page_of(dataclasses.replace(results, about=about), tmp_path)
    assert "onerror" in text and "<img src=x" not in text


def test_templates_take_as_markup_only_what_is_made_here():
    """Everything else is escaped."""
    templates = notes.TEMPLATES.glob("*.html.j2")
    text = "".join(p.read_text() for p in templates)
    assert set(re.findall(r"{{ ([^{}]*?) \| safe }}", text)) == {
        *("body", "table", "shown.cost", "shown[name]")
    }
    assert len(re.findall(r"\bsafe\b", text)) == 5


@pytest.mark.parametrize("only", ["fixed", "mixed"])
def test_a_grid_of_one_setup_has_its_tables_and_page(tmp_path, only):
    results = synthetic.study(["faces"], ["custom"], [only], [0])
    tables.write(results, tmp_path)
    assert f"| {only} |" in (tmp_path / "table.md").read_text()
    assert select.effects(results).empty and stats.primary(stats.judge(results)).empty
    text = page_of(results, tmp_path)
    assert "no pair of setups that a registered question names" in text and only in text


def test_a_missing_figure_folder_is_named_with_the_command(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], [0])
    with pytest.raises(FileNotFoundError, match=r"captions.json.*\./run_all.sh smoke"):
        report.build(results, tmp_path)
