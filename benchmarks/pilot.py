"""Find settings with which short trainings learn: `fixed` alone, judged on validation images.

    PYTHONPATH=. python benchmarks/pilot.py              # every trial below that is not done yet
    PYTHONPATH=. python benchmarks/pilot.py NAME ...     # those whose names begin so
    PYTHONPATH=. python benchmarks/pilot.py --report     # the table of what was found

No test image is seen: of a pack of PACK training images the last HELD_OUT validate, and the holes
for them have a seed of their own. A trial is trained by the library's own step on one thread; its
moving average is measured, with batch norm calibrated on training images, as in an evaluation.
Records are appended to reports/pilot/trials.jsonl; those of protocol 1 (reports/pilot.md) were made
with commit 99036ed.
"""

import dataclasses
import json
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from inpaint_lib import PROTOCOL, masks, metrics, rng
from inpaint_lib.data import feed, packs
from inpaint_lib.evaluation import baselines
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, ended, fail, say
from inpaint_lib.training import loop
from inpaint_lib.training.step import Step, choose_options

PACK, HELD_OUT, CALIBRATION = 8256, 256, 320  # images
MASK_SEED, RESAMPLES = 20191112, 2000
TRIVIAL, ACTIVE = ("mean colour", "nearest"), (0.55, 0.95)  # baselines; D's balanced accuracy
RECORDS, DEVICE = files.ROOT / "reports" / "pilot" / "trials.jsonl", torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training by `fixed`; `set` are overrides of the profile, as in --set."""

    name: str
    architecture: str
    set: dict = dataclasses.field(default_factory=dict)
    images: int = 2560
    dataset: str = "faces"
    seed: int = 0
    profile: str = "tiny"

    def run(self):
        """Return the run that this trial trains."""
        wanted = {"curriculum.total_images": self.images, "machine.threads": 1}
        wanted["data.train_images"] = PACK - HELD_OUT
        study = grid.open_study(self.profile, wanted | self.set)
        return grid.Run(study, self.dataset, self.architecture, "fixed", self.seed)


# candidates are written down before they are tried
TRIALS = [
    Trial(f"as in tiny, {architecture}, seed {seed}", architecture, seed=seed)
    for architecture in ("custom", "context_encoder", "free_form")
    for seed in (0, 1)
]


def data(run):
    """Return (training images, validation images, their largest holes), uint8."""
    size, width = run.config.data.image_size, run.config.curriculum.mask_widths[-1]
    split = run.config.data.model_copy(update={"train_images": PACK, "test_images": 1})
    study = grid.Study(f"pilot_{size}", run.config.model_copy(update={"data": split}))
    images = packs.prepare(study, run.dataset).train
    holes = masks.frozen(run.model.mask_family, HELD_OUT, width, size, MASK_SEED)
    return np.array(images[:-HELD_OUT]), np.array(images[-HELD_OUT:]), holes


def errors(batches):
    """Return hole (L1, L2) of every image of `metrics.inpaint`'s batches."""
    return metrics.evaluate(batches)[:, 0, :2].numpy()


def train(trial):
    """Train a trial -> its record."""
    torch.set_num_threads(1)
    run, begun = trial.run(), time.process_time()
    curriculum, options = run.config.curriculum, choose_options(run.config, DEVICE)
    images, valid, holes = data(run)
    state = loop.start(run, DEVICE, options)
    step, accuracy = Step(run, state, DEVICE, options), []
    steps, batch = range(curriculum.steps), curriculum.batch_size
    fed = feed.batches(torch.from_numpy(images), run.seed, steps, batch, DEVICE, "resident")
    for k, real in enumerate(tqdm(fed, desc=trial.name, total=len(steps), leave=False)):
        step(real, loop.hole_variates(run, k), run.phase(k))
        state.average.update_parameters(state.G)
        accuracy.append(step.read()["d_accuracy"])
    drawn = masks.generate(
        run.model.mask_family,
        CALIBRATION,
        curriculum.mask_widths[-1],
        run.config.data.image_size,
        rng.keyed("pilot"),
    )
    drawn = drawn[:, 0].byte().numpy()
    known = images[:CALIBRATION]
    G = metrics.calibrated(state.average.module, known, drawn, DEVICE, max(batch, 32))
    ours = errors(metrics.inpaint(G, valid, holes, DEVICE, 64))
    d = float(np.mean(accuracy[-(len(steps) // 4) :]))
    l1, l2 = (float(value) for value in ours.mean(0))
    return (
        dataclasses.asdict(trial)
        | {"protocol": PROTOCOL, "hole_l1": l1, "hole_l2": l2}
        | against_baselines(ours, valid, holes)
        | {"d_accuracy": d, "game_active": ACTIVE[0] <= d <= ACTIVE[1]}
        | {"core_seconds": round(time.process_time() - begun, 1)}
    )


def against_baselines(ours, valid, holes):
    """Return each baseline's hole L2 and the 95 % interval of ours minus it, over images."""
    real, mask = metrics.to_float(valid), torch.from_numpy(holes).float()[:, None]
    picks = np.random.default_rng(0).integers(0, HELD_OUT, (RESAMPLES, HELD_OUT))
    found, intervals = {}, {}
    for name in baselines.BASELINES:
        filled = metrics.to_float(baselines.fill(name, valid, holes))
        theirs = errors([(filled, real, mask)])[:, 1]
        found[name] = float(theirs.mean())
        means = (ours[:, 1] - theirs)[picks].mean(1)
        intervals[name] = [float(v) for v in np.percentile(means, [2.5, 97.5])]
    return {
        "baselines_l2": found,
        "intervals": intervals,
        "beats_trivial": all(intervals[name][1] < 0 for name in TRIVIAL),
        "beats_all": all(high < 0 for _, high in intervals.values()),
    }


def report(done):
    """Return the table of all records as Markdown."""
    header = ["trial", "data", "images", "settings", "hole L1", "hole L2", "best baseline L2"]
    header += ["beats trivial", "beats all", "D's accuracy", "game active", "core-s"]
    lines = [" | ".join(header), " | ".join(["---"] * len(header))]
    for r in done:
        settings = ", ".join(f"{key} {value}" for key, value in r["set"].items())
        cells = [r["name"], r["dataset"], f"{r['images']:,}", settings or f"as in {r['profile']}"]
        best = min(r["baselines_l2"].values())
        cells += [f"{r['hole_l1']:.4f}", f"{r['hole_l2']:.5f}", f"{best:.5f}"]
        cells += ["yes" if r[key] else "no" for key in ("beats_trivial", "beats_all")]
        cells += [f"{r['d_accuracy']:.2f}", "yes" if r["game_active"] else "no"]
        lines.append(" | ".join([*cells, f"{r['core_seconds']:.0f}"]))
    return [f"| {line} |" for line in lines]


def main(argv):
    """Train the trials that `argv` names, or print the table."""
    parser = Parser(prog="benchmarks/pilot.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="how the names of trials begin (default: all)")
    parser.add_argument("--report", action="store_true", help="print what was found as a table")
    try:
        args = parser.parse_args(argv)
    except ValueError as error:
        return fail(2, error, "pilot.py")
    lines = RECORDS.read_text(encoding="utf-8").splitlines() if RECORDS.is_file() else []
    done = [r for r in map(json.loads, lines) if r.get("protocol") == PROTOCOL]
    if args.report:
        say(*report(done))
        return 0
    finished = [{key: r[key] for key in dataclasses.asdict(TRIALS[0])} for r in done]
    for trial in TRIALS:
        wanted = not args.names or trial.name.startswith(tuple(args.names))
        if wanted and dataclasses.asdict(trial) not in finished:
            record = train(trial)
            with RECORDS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            say(*report([record])[2:])
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
