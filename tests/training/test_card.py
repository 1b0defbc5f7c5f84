"""What goes out with a trained generator: weights that suffice alone, their description, the model card."""

import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from inpaint_lib.data import packs, sources
from inpaint_lib.training import artifacts, card, jobs, loop

SECTIONS = ("What it is", "Intended use and limits", "Training data", "Training procedure", "Metrics", "How to use", "Licence")


def test_a_finished_run_leaves_its_generator_with_a_description_and_a_model_card(micro, run_of):
    run = run_of(micro())
    loop.fit(run, lambda *_: None)
    folder = run.folder / "model"
    listed = {name for name in artifacts.names(run.config) if name.startswith("model/")}
    assert {f"model/{p.name}" for p in folder.iterdir()} == listed and len(listed) == 3

    weights, reference = load_file(folder / "model.safetensors"), artifacts.load_generator(run, 2).state_dict()
    assert weights.keys() == reference.keys()  # no discriminator
    assert all(torch.equal(v, reference[k]) for k, v in weights.items())

    description = json.loads((folder / "model.json").read_text())
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["description"]) == description
        assert json.loads(file.metadata()["settings"]) == description["settings"]
    manifest = packs.existing(run.study, run.dataset).manifest
    assert description["data"]["images"] == {"test": 8, "train": 24} and description["data"]["files"] == manifest["files"]
    assert [row["mask_width"] for row in description["metrics"]["values"] if row["region"] == "hole"] == [8, 16]
    assert description["training"]["images_shown"] == 64

    text = (folder / "README.md").read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    for words in ("stand-in for MSCOCO", "random weights", "a demonstration", "| square | 16 | hole |", "run_all.sh inpaint"):
        assert words in text
    celeba = card.write(description | {"licence": sources.DATASETS["celeba"].licence, "warnings": []})
    assert "non-commercial research only" in celeba and "stand-in" not in celeba

    pack = packs.existing(run.study, run.dataset)
    assert jobs.resolve(run, pack).result
    (folder / "README.md").unlink()
    assert not jobs.resolve(run, pack).result


def test_the_words_of_the_model_card_do_not_decide_what_is_trained():
    names = {name.rsplit("/")[-1] for name in jobs.SOURCES}
    assert "artifacts.py" in names and not names & {"card.py", "inpaint.py", "photos.py", "windows.py"}
