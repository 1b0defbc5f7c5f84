"""The page: what it shows, and that it shows names as they are and loads nothing."""

import base64
import dataclasses
import html
import json
import re
import shlex
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from inpaint_lib.results import (
    bundle,
    figures,
    frames,
    glossary,
    layout,
    notes,
    pictures,
    report,
    script,
    standing,
    stats,
    summary,
    tables,
    verdicts,
)
from tests.results import pages, synthetic
from workflow import arguments

NASTY = "<img src=x onerror=alert(1)>"
TABS = ("answer", "faces-custom", "explore", "runs", "images", "study", "glossary")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    return synthetic.notebook(tmp_path_factory.mktemp("executed") / "notebook.ipynb", NASTY)


@pytest.fixture(scope="module")
def built(tmp_path_factory, notebook):
    results = synthetic.study(datasets=["faces"], architectures=["custom"], seeds=range(2))
    folder = tmp_path_factory.mktemp("report")
    report.save_figures(folder / "figures", figures.draw(results, "answer", "heat", "grid"))
    tables.write(results, folder / "tables")
    names = frames.name_runs(results.runs)
    pages = [(f"Training: {n}", notebook, f"{n.replace('/', '_')}.html", n) for n in names]
    report.build(results, folder, [*pages, ("Metrics", notebook, "metrics.html", None)])
    return results, folder


def plain_of(text):
    """Return a page's text without its markup."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text.replace("<br>", " "))))


def page_of(results, folder, figures=()):
    report.save_figures(folder / "figures", dict(figures), pdf=False)
    return report.build(results, folder).read_text()


def test_figures_are_saved_at_twice_their_size_with_few_colours_and_as_vectors(tmp_path):
    image = np.zeros((2, 8, 8, 3), np.uint8)
    figure = pictures.draw_grid({"a": image}, rows=["x", "y"], holes=np.eye(8)[None].repeat(2, 0))
    report.save_figures(tmp_path, {"one": (figure, "What to see.")})
    entry = json.loads((tmp_path / "captions.json").read_text())["one"]
    with Image.open(tmp_path / "one.png") as saved:
        assert np.allclose(saved.size, (2 * entry["width"], 2 * entry["height"]), atol=2)
        assert saved.mode == "P"
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert entry["caption"] == "What to see."


def test_the_index_has_every_tab_figure_answer_and_number(built):
    results, folder = built
    text = (folder / "index.html").read_text()
    assert all(f'id="{name}"' in text for name in TABS)
    captions = json.loads((folder / "figures/captions.json").read_text())
    assert all(text.count(f'<figure id="figure-{name}">') == 1 for name in captions)
    plain = plain_of(text)
    for answer in notes.answer_questions(stats.judge(results)):
        assert f"{answer['question']} {answer['name']}" in plain and answer["text"] in plain
        assert answer["cells"][0]["text"] in plain
    means = tables.make_table(results).query("region == 'hole' and metric == 'l1'")["mean"]
    assert all(f"{value:.4f}" in text for value in means)
    for words in ("10-20 %", "up to 12 px", "2 of 2; D 0.70, share 0.30", "(first 4)"):
        assert words in text
    assert text.count("weights not available") == 1 and "on one fixed batch" in text
    assert not re.search(r"\b(nan|None|NaN)\b", text)


def test_the_page_opens_with_holes_filled_where_the_baselines_are_beaten(tmp_path):
    level = {"custom": 0.5, "context_encoder": 0.12, "free_form": 0.09}  # custom beats nothing
    results = synthetic.study(datasets=["faces"], seeds=[0], level=level)
    text = page_of(results, tmp_path, {})
    first = plain_of(text[: text.index('class="cards"')])
    assert "The test images of faces that free_form fills best, median and worst" in first
    assert '"figures/sizes_faces_free_form.png"' in summary.render_study(results)
    worse = synthetic.with_errors(results, "seed >= 0", "l2", lambda _: 9.0)
    assert summary.choose_cell(worse, standing.judge_runs(worse)) is None
    assert 'class="opening"' not in page_of(worse, tmp_path / "worse", {})


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A study with words: four seeds of three setups, one run diverged, the first is a gain."""
    grid = {"datasets": ["faces"], "architectures": ["custom", "free_form"]}
    results = synthetic.study(
        **grid,
        setups=["fixed", "progressive", "mixed"],
        seeds=range(4),
        profile="small",
        diverged=("faces/free_form/mixed/seed2",),
    )
    folder = tmp_path_factory.mktemp("registered")
    return results, folder, page_of(results, folder)


def test_cards_show_word_interval_distance_badges_and_seeds(registered):
    results, _, text = registered
    first = text[text.index('class="cards"') : text.index('class="health"')]
    assert first.count(">exploratory<") == 3 and first.count(">provisional<") == 3
    assert 'class="word good"' in first and first.count('class="interval') == 6
    row = stats.get_questions(stats.judge(results)).iloc[0]
    end, margin = 100 * row.ci_high, 100 * row.margin
    assert row.word == "supported" and end < -margin
    told = f"Upper end {100 / 1.02 - 100 - end:.1f} points below -1.96 %."
    assert told in text and f"{100 * row.effect:+.1f} %" in first
    readme = summary.render_study(results)
    words = stats.get_questions(stats.judge(results)).query("question == 'Q1'").word
    short = f"is supported in {sum(words == 'supported')} of {len(words)} comparisons for Q1"
    assert short in readme and short in plain_of(text)
    assert "The results are *exploratory* (" in readme and " and *provisional* (" in readme


def test_certainty_is_told_where_every_verdict_is_that_runs_diverged(tmp_path):
    grid = {"datasets": ["faces"], "architectures": ["custom"], "seeds": range(5)}
    grid |= {"setups": ["fixed", "progressive", "mixed"], "profile": "small"}
    lost = tuple(f"faces/custom/{setup}/seed1" for setup in ("progressive", "fixed"))
    results = synthetic.study(**grid, diverged=lost)
    cards = verdicts.make_cards(results)
    assert {cell["word"] for answer in cards for cell in answer["cells"]} == {"diverged"}
    assert "no verdict" not in verdicts.describe_certainty(results, cards)
    assert "No single seed changes that" not in page_of(results, tmp_path)


def test_what_has_no_value_is_not_shown(built, registered):
    _, folder = built  # two seeds: estimates, no interval
    text = (folder / "index.html").read_text()
    cards = text[text.index('class="cards"') : text.index('class="health"')]
    assert "t-verdict" not in cards and "t-interval" not in cards
    assert "t-verdict" in registered[2] and "t-interval" in registered[2]
    frame = pd.DataFrame({"setup": ["a", "b"], "hole_l1": [1.5, 2], "beats_all": [True, False]})
    shown = layout.prepare_table(frame.assign(interval="-", remark=["", "x"], level=""))
    assert [name for _, name, _ in shown["head"]] == ["setup", "hole L1", "beats all", "remark"]
    assert [row[2][0] for row in shown["rows"]] == ["yes", "no"]
    assert not re.search(r'<td[^>]*>(True|False)</td>|<th scope="col"[^>]*>[^<]*_', text)


def test_texts_of_numbers_sort_as_numbers():
    texts = ["+4.4 %", "-3.0 % to +1.2 %", "-0.0120", "12", "2 of 4", "x"]
    shown = layout.prepare_table(pd.DataFrame({"effect": texts}))
    assert [row[0][1] for row in shown["rows"]] == [4.4, -3.0, -0.012, 12.0, None, None]


def test_a_seed_left_out_gives_what_the_study_without_it_gives(registered):
    results, _, text = registered
    found = stats.leave_each_out(results).query("question == 'Q1' and architecture == 'custom'")
    assert found.seed.tolist() == [0, 1, 2, 3]
    without = dataclasses.replace(results, runs=results.runs[results.runs.seed != 2])
    [row] = (
        stats.get_questions(stats.judge(frames.narrow(without)))
        .query("question == 'Q1' and architecture == 'custom'")
        .itertuples()
    )
    [own] = found[found.seed == 2].itertuples()
    assert own.effect == pytest.approx(row.effect) and own.word == row.word
    alone = stats.judge(results).query("question == 'Q1' and architecture == 'custom'").iloc[0]
    assert found.effect.min() < alone.effect < found.effect.max()
    assert text.count('class="leave ') == 5  # where a run diverged, three seeds are left
    few = synthetic.study(["faces"], ["custom"], seeds=range(3), profile="small")
    assert stats.leave_each_out(few).empty  # two seeds have no verdict


def test_few_seeds_are_a_limit_with_what_they_can_detect(registered):
    results = registered[0]
    rows = stats.get_questions(stats.judge(results))
    gains = -100 * rows[rows.n_seeds > 0].detectable
    told = f"{rows.n_seeds.min()} to 4 of 10 registered seeds: four of five such studies would"
    told += f" find a gain of {gains.min():.0f} % in the most precise comparison"
    assert any(caveat.startswith(told) for caveat in notes.list_caveats(results))
    front = summary.render_study(results, front=True)
    assert told in front and "| Q3 |" in front and "supported" in front.split("| Q1 |")[1]
    ten = synthetic.study(["faces"], ["custom"], seeds=range(10), profile="small")
    assert not any("registered seeds" in caveat for caveat in notes.list_caveats(ten))


def test_the_command_that_trains_a_run_again_survives_a_shell(tmp_path):
    widths, folder = [4, 8], str(tmp_path / "my images")
    overrides = {"curriculum.mask_widths": widths, "machine.data_root": folder}
    results = synthetic.study(["faces"], ["custom"], seeds=[0], overrides=overrides)
    words = shlex.split(report.make_command(results, results.runs.iloc[0].to_dict()))
    assert words[:2] == ["./run_all.sh", "smoke"] and words[-2:] == ["--data-root", folder]
    args = arguments.parse_arguments(words[1:])
    assert arguments.read_overrides(args)["curriculum.mask_widths"] == widths
    line = report.make_command(results, results.runs.iloc[0].to_dict())
    assert "'curriculum.mask_widths=[4,8]'" in line  # zsh would take [4,8] for a pattern


def test_runs_that_diverged_are_named_and_have_a_page(registered):
    _, folder, text = registered
    assert "1 of 24 runs diverged:" in plain_of(text)
    page = plain_of((folder / "runs/faces_free_form_mixed_seed2.html").read_text())
    assert "Diverged: loss is not finite." in page and "The run ended here" in page
    assert "./run_all.sh small --datasets faces --architectures free_form --setups mixed" in page


def test_every_run_and_recorded_image_has_a_page_and_a_neighbour(built):
    results, folder = built
    names = frames.name_runs(results.runs)
    assert len(list((folder / "runs").iterdir())) == len(names)
    text = (folder / "runs/faces_custom_progressive_seed1.html").read_text()
    run = results.runs.query("setup == 'progressive' and seed == 1").iloc[0]
    assert all(str(run[key]) in text for key in ("commit", "device", "precision", "protocol"))
    assert results.about["data"]["faces"]["identity"]["masks"] in text and "&#34;lr_g&#34;" in text
    assert text.count('rel="prev"') == text.count('rel="next"') == 1 and "<polyline" in text
    assert 'href="../notebooks/faces_custom_progressive_seed1.html"' in text
    recorded = results.about["recorded"]["faces"]
    assert {p.stem for p in (folder / "images").iterdir()} == {f"faces_{k}" for k in recorded}
    page = (folder / f"images/faces_{recorded[1]}.html").read_text()
    assert all(setup in page for setup in results.runs.setup) and 'rel="next"' in page


def test_sheets_show_fills_in_the_holes_alone(built):
    results, folder = built
    name, widths = "faces/custom/fixed/seed0", results.widths
    with Image.open(folder / bundle.name_sheet(name)) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (3 * 32, 32 * len(widths) ** 2, 4)
    hole = results.fills[f"faces/mask/square_{widths[-1]}"][1] > 0
    own = results.fills[f"{name}/stage3/square_{widths[-1]}"][1]
    tile = pixels[32:64, -32:]
    assert (tile[hole, :3] == own[hole]).all() and (tile[..., 3] > 0).tolist() == hole.tolist()


def test_maps_of_the_discriminator_are_kept_in_a_byte_each(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed", "progressive"], [0])
    path = synthetic.recording(tmp_path / "recording.npz", results.widths, 3)
    found = bundle.compress_scores(path, [0, 5, 9])
    with np.load(path) as stored:
        for width in results.widths:
            for k, one in enumerate(found[f"{width}"]):
                own = stored[f"end_scores_{width}_{k}"]
                assert one["levels"].dtype == np.int8 and one["levels"].shape == own.shape
                assert np.allclose(one["levels"] * one["scale"], own, atol=own.max() / 200)
    assert bundle.compress_scores(path, [0, 5]) == {}  # other images were recorded


def test_scripts_hold_what_the_results_hold(built):
    results, folder = built
    text = (folder / "data/curves_faces_custom.js").read_text()
    name, found = json.loads(re.fullmatch(r"inpaintData\(\.\.\.(.*)\);\n", text)[1])
    assert name == "curves_faces_custom"
    content = zlib.decompress(base64.b64decode(found["bytes"]))
    answer = json.loads(content[: found["sizes"][0]])
    history = answer["faces/custom/mixed/seed1"]["histories"]
    content = content[sum(found["sizes"][: 1 + history["values"]["buffer"]]) :]
    n = np.prod(history["values"]["shape"])
    values = np.frombuffer(content[: 4 * n], np.float32).reshape(history["values"]["shape"])
    own = results.history.query("setup == 'mixed' and seed == 1")
    assert np.allclose(values[history["columns"].index("d_real")], own.d_real)


def test_pages_load_nothing_and_every_link_leads_somewhere(built):
    results, folder = built
    of_runs = [len(list((folder / kind).glob("faces_*.html"))) for kind in ("runs", "notebooks")]
    assert of_runs == [len(results.runs)] * 2
    for page in sorted(folder.rglob("*.html")):
        pages.check(page)
        text = page.read_text()
        assert len(re.findall("<script", text)) == 1
        for link in re.findall(r"url\((.+?)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        ids = set(re.findall(r'id="([^"]*)"', text))
        for link in re.findall(r'(?:href|popovertarget)="#?([^"/.]*)"', text):
            assert link in ids, f"{page.name}: {link}"
    for asset in (folder / "assets").iterdir():
        text = asset.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text)


def test_a_notebooks_page_folds_says_which_values_hold_and_stores_a_picture_once(built):
    _, folder = built
    text = (folder / "notebooks/faces_custom_progressive_seed1.html").read_text()
    assert "WIDGET" not in text and "figure: What is shown?" in text
    assert "<img src=x" not in text and "onerror=alert" in text
    assert text.index("They are replaced") < text.index("smoke") < text.index("The values of this")
    assert text.count("waiting for another process") == 1 and "profile" in text
    assert "<details><summary>table: What is shown?</summary>" in text
    assert len(list((folder / "notebooks/images").iterdir())) == 1


def test_a_class_of_the_painter_has_no_other_meaning_in_the_explorer():
    explorer, painter = ((script.STATIC / f"{n}.css").read_text() for n in ("explorer", "painter"))
    own = set(re.findall(r"^(?:\.ix )?\.(ix-[a-z]+) \{", painter, re.MULTILINE))
    assert own and not own & set(re.findall(r"\.(ix-[a-z]+)", explorer))


def test_what_differs_from_the_paper_is_read_from_the_whole_configuration(built):
    results, _ = built
    found = {what: (paper, here) for what, paper, here in report.list_deviations(results)}
    assert found["data.image_size"] == ("128", "32")
    for key in ("curriculum.total_images", "curriculum.mask_widths", "curriculum.batch_size"):
        assert key in found
    assert found["evaluation.fid_stages"] == ("all", "last")
    assert {"models.custom.lr_g", "models.custom.widths.generator_width"} <= set(found)
    assert not any("free_form" in what for what in found)
    assert found["grid.datasets"] == ("celeba, coco", "faces") and len(report.CHOICES) <= 20
    listed = dict(report.list_choices(results))
    assert listed["curriculum.mask_widths"] == "8, 12, 16"
    assert "models.custom.loss_weights.adversarial" in listed


def test_names_with_markup_stay_text(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], [0])
    about = results.about | {"left_out": {NASTY: NASTY}}
    for name in ("runs", *frames.SHARDED):
        results = synthetic.with_rows(results, name, "seed == 0", setup=NASTY)
    errors = results.per_image.rename({"fixed": NASTY}, level="setup")
    text = page_of(dataclasses.replace(results, about=about, per_image=errors), tmp_path)
    assert "onerror" in text and "<img src=x" not in text


def test_templates_take_as_markup_only_what_is_made_here():
    """Everything else is escaped."""
    text = "".join(p.read_text() for p in notes.TEMPLATES.glob("*.html.j2"))
    assert re.findall(r"{{ ([^{}]*?) \| safe }}", text) == ["body"]
    assert len(re.findall(r"\bsafe\b", text)) == 1
    assert glossary.mark_terms("<b>hole L1</b>").count("&lt;b&gt;") == 1


@pytest.mark.parametrize("only", ["fixed", "mixed"])
def test_a_grid_of_one_setup_has_its_tables_and_page(tmp_path, only):
    results = synthetic.study(["faces"], ["custom"], [only], [0])
    tables.write(results, tmp_path)
    assert f"| {only} |" in (tmp_path / "table.md").read_text()
    assert stats.compute_effects(results).empty and stats.get_questions(stats.judge(results)).empty
    text = page_of(results, tmp_path)
    assert "no pair of setups that a registered question compares" in text and only in text


def test_outputs_made_elsewhere_stand_in_the_tables_of_every_tab(tmp_path):
    results = synthetic.study(["faces"], ["custom", "free_form"], ["fixed"], [0])
    text = page_of(synthetic.with_outputs(results, "lama", 0.01), tmp_path)
    tabs = re.split('<section class="tab"', text)[2:4]
    for tab in tabs:  # after the last stage, on other holes
        assert tab.count("lama (not trained here)") > 1 and "no verdict uses them" in tab


def test_a_missing_figure_folder_is_named_with_the_command(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], [0])
    with pytest.raises(FileNotFoundError, match=r"captions.json.*\./run_all.sh smoke"):
        report.build(results, tmp_path)
