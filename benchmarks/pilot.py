"""Which settings let a short training learn at all: `fixed` alone, one architecture at a time, no test image seen.

    PYTHONPATH=. python benchmarks/pilot.py              # every trial of the list below that is not done yet, one core
    PYTHONPATH=. python benchmarks/pilot.py NAME ...     # those whose names begin so
    PYTHONPATH=. python benchmarks/pilot.py --report     # reports/pilot.md from what was found

Split (fixed before the first trial): of a pack of PACK training images the last HELD_OUT validate, the others train; masks for
them are drawn with a seed of the pilot's own. `scenes` are crops of eight photographs: held-out crops would overlap those
trained on. `scenes_apart` treats the training part of each photograph (its left two thirds) as a whole
photograph, so that its right third validates, as in the real split. A trial is trained by the library's own step; weights are
measured at several numbers of images, `alive` over the last quarter of the steps until there.
"""

import copy
import dataclasses
import itertools
import json
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from inpaint_lib import masks, metrics, setups
from inpaint_lib.data import feed, packs, scenes
from inpaint_lib.evaluation import baselines
from inpaint_lib.study import config, files, grid
from inpaint_lib.study.command import Parser
from inpaint_lib.training import loop
from inpaint_lib.training.step import Step, choose_levers

PACK, HELD_OUT, MASK_SEED, RESTATE, RESAMPLES = 8256, 256, 20191112, 320, 2000
ALIVE, FOLDER, DEVICE = (0.55, 0.95), config.ROOT / "reports" / "pilot", torch.device("cpu")
FIELDS = ("name", "architecture", "dataset", "seed", "checks", "set", "initial", "augment", "decay")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training by `fixed`. `set` are overrides as in --set, `architecture` short for models.<architecture> in their keys
    ("m."); `checks` are numbers of images at which it is measured; `initial`: "library", "glorot" or "torch" (PyTorch's
    default); `augment`: a key of AUGMENT; `decay`: share of the training at whose end rates fall linearly to 0."""

    name: str
    architecture: str
    set: dict = dataclasses.field(default_factory=dict)
    checks: tuple = (2560, 5120)
    dataset: str = "faces"
    seed: int = 0
    initial: str = "library"
    augment: str = "none"
    decay: float = 0.0

    def run(self):
        total = {"total_images": self.checks[-1], "train_images": PACK - HELD_OUT, "threads": 1, "mask_widths": [4, 8, 12, 16]}
        changed = {key.replace("m.", f"models.{self.architecture}.", 1) if key.startswith("m.") else key: value
                   for key, value in (total | self.set).items()}  # fmt: skip
        study = grid.open_study("tiny", changed)
        return grid.Run(study, self.dataset.removesuffix("_apart"), self.architecture, "fixed", self.seed)


# --- data: images to train on, images to validate on


def _flipped(images):
    return np.concatenate([images, images[:, :, ::-1]])


def _jittered(images):
    """Flipped; three copies whose channels are scaled by 0.7 to 1.3 and whose brightness is shifted by up to a tenth."""
    draw, parts = np.random.default_rng(1), [_flipped(images)]
    for _ in range(3):
        gain = draw.uniform(0.7, 1.3, (len(parts[0]), 1, 1, 3))
        shift = draw.uniform(-25, 25, (len(parts[0]), 1, 1, 1))
        parts.append((parts[0] * gain + shift).clip(0, 255).astype(np.uint8))
    return np.concatenate(parts)


AUGMENT = {"none": lambda images: images, "flip": _flipped, "jitter": _jittered,
           "scales": lambda images: images, "scales jitter": _jittered}  # fmt: skip


def _apart(split, count, size, smallest):
    """Crops of the left two thirds of the photographs, themselves split like a photograph. `smallest`: None for the scales
    of scenes.py, or the smallest crop as a share of the largest, scales between uniform."""
    found = {}
    for k, (name, path) in enumerate(scenes.photographs().items()):
        photo = scenes._photograph(path)
        photo = photo[:, : photo.shape[1] - photo.shape[1] // 3]
        rng = np.random.default_rng([MASK_SEED, k, split == "test"])
        boxes = scenes.crop_boxes(*photo.shape[:2], split, -(-count // len(scenes.photographs())), rng, size)
        if smallest:
            kept = np.maximum(size, boxes[:, 2] * rng.uniform(smallest, 1, len(boxes))).astype(int).clip(max=boxes[:, 2])
            boxes = np.stack([*(boxes[:, i] + rng.integers(0, boxes[:, 2] - kept, endpoint=True) for i in (0, 1)), kept], 1)
        found[name] = [scenes.crop(photo, box, size) for box in boxes]
    return np.stack([crops[i] for i in range(len(next(iter(found.values())))) for crops in found.values()])[:count]


def data(trial, run):
    """(training images, validation images), uint8."""
    size = run.config.image_size
    if trial.dataset == "scenes_apart":
        smallest = 0.3 if trial.augment.startswith("scales") else None
        train, valid = _apart("train", run.config.train_images, size, smallest), _apart("test", HELD_OUT, size, None)
    else:
        study = grid.Study(f"pilot_{size}", run.config.model_copy(update={"train_images": PACK, "test_images": 1}))
        pack = packs.prepare(study, run.dataset)
        train, valid = np.array(pack.train[: run.config.train_images]), np.array(pack.train[PACK - HELD_OUT :])
    assert run.config.train_images <= PACK - HELD_OUT
    return AUGMENT[trial.augment](train), valid


def fills(trial, run, valid, holes):
    """{fill: hole (L1, L2) of every validation image}, kept on disk."""
    path = grid.output_root() / "runs" / "pilot_fills" / f"{trial.dataset}_{run.model.mask_family}_{run.config.image_size}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        real, mask = metrics.to_float(valid), torch.from_numpy(holes).float()[:, None]
        np.savez(path, **{name: metrics.per_image(metrics.to_float(baselines.fill(name, valid, holes)), real, mask)[:, 0, :2]
                          for name in baselines.BASELINES})  # fmt: skip
    return dict(np.load(path))


# --- one trial


def train(trial):
    """Train a trial -> one record per check."""
    torch.set_num_threads(1)
    run = trial.run()
    batch, steps, schedule = run.config.batch_size, run.config.steps, setups.Schedule(run.config.steps, run.config.mask_widths)
    images, valid = data(trial, run)
    holes = masks.frozen(run.model.mask_family, HELD_OUT, run.config.mask_widths[-1], run.config.image_size, MASK_SEED)
    known = fills(trial, run, valid, holes)
    levers = choose_levers(run.config, DEVICE, run.architecture)
    state = loop.start(run, DEVICE, levers)
    if trial.initial != "library":
        _draw_again(state, trial)
    step, averages, accuracy, seconds, records = Step(run, state, DEVICE, levers), {}, [], 0.0, []
    checks = {n // batch: n for n in trial.checks}
    rates = [group["lr"] for group in (*state.opt_g.param_groups, *state.opt_d.param_groups)]
    source = feed.batches(torch.from_numpy(images), run.seed, range(steps), batch, DEVICE, "resident")
    for k, real in enumerate(tqdm(source, desc=trial.name, total=steps, unit="step", mininterval=5, leave=False)):
        begun = time.process_time()
        if trial.decay:
            for group, rate in zip((*state.opt_g.param_groups, *state.opt_d.param_groups), rates, strict=True):
                group["lr"] = rate * min(1.0, (steps - k) / (trial.decay * steps))
        step(real, loop.hole_variates(run, k), setups.SETUPS["fixed"](schedule, k))
        accuracy.append(step.read()["d_accuracy"])
        seconds += time.process_time() - begun
        for end in (end for end in checks if end - end // 4 <= k + 1 <= end):  # a moving average over that budget's last stage
            ours = averages.setdefault(end, copy.deepcopy(state.G))
            share = 1 - 0.5 ** (40 / end)  # half-life: a tenth of its quarter
            torch._foreach_lerp_([p.detach() for p in ours.parameters()], [p.detach() for p in state.G.parameters()], share)
        if (k + 1) in checks:
            shown = checks[k + 1]
            measured = {name: _measure(G, run, images, valid, holes)
                        for name, G in (("last", state.G), ("average", averages.pop(k + 1)))}  # fmt: skip
            records.append(_record(trial, run, shown, measured, known, accuracy[-((k + 1) // 4) :], seconds))
            tqdm.write(line(records[-1]))
    return records


def _draw_again(state, trial):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        for module in itertools.chain(state.G.modules(), state.D.modules()):
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                held = module.parametrizations.weight.original if hasattr(module, "parametrizations") else module.weight
                if trial.initial == "glorot":
                    torch.nn.init.xavier_uniform_(held)
                    torch.nn.init.zeros_(module.bias)
                    continue
                torch.nn.init.kaiming_uniform_(held, a=5**0.5)
                if module.bias is not None:
                    bound = held[0].numel() ** -0.5
                    torch.nn.init.uniform_(module.bias, -bound, bound)


@torch.no_grad()
def _measure(G, run, images, valid, holes):
    """Hole (L1, L2) of every validation image. Batch norm's statistics come from RESTATE training images (protocol 2)."""
    drawn = masks.generate(run.model.mask_family, RESTATE, run.config.mask_widths[-1], run.config.image_size,
                           loop.rng.keyed("pilot"))  # fmt: skip
    G = metrics.calibrated(G, images[:RESTATE], drawn[:, 0].byte().numpy(), DEVICE, 32)
    return metrics.evaluate(metrics.inpaint(G, valid, holes, DEVICE, 64))[:, 0, :2].numpy()


def _record(trial, run, shown, measured, known, accuracy, seconds):
    ours, d = measured["last"], float(np.mean(accuracy))
    picks = np.random.default_rng(0).integers(0, HELD_OUT, (RESAMPLES, HELD_OUT))
    intervals = {}
    for name, fill in known.items():
        difference = (ours - fill)[:, 1][picks].mean(1)
        intervals[name] = [float(v) for v in np.percentile(difference, [2.5, 97.5])]
    below = {name: high < 0 for name, (_, high) in intervals.items()}
    return {
        **dataclasses.asdict(trial), "images": shown, "steps": shown // run.config.batch_size,
        "hole_l1": float(ours[:, 0].mean()), "hole_l2": float(ours[:, 1].mean()),
        "average_l1": float(measured["average"][:, 0].mean()), "average_l2": float(measured["average"][:, 1].mean()),
        "fills": {name: [float(v) for v in fill.mean(0)] for name, fill in known.items()}, "intervals": intervals,
        "learnt": below["mean colour"] and below["nearest"], "useful": all(below.values()), "d_accuracy": d,
        "alive": ALIVE[0] <= d <= ALIVE[1], "seconds": round(seconds, 1), "threads": 1,
    }  # fmt: skip


def line(r):
    words = [name if r[name] else f"not {name}" for name in ("learnt", "useful", "alive")]
    best = min(r["fills"], key=lambda name: r["fills"][name][1])
    return (f"{r['name']} {r['images']}: L1 {r['hole_l1']:.4f} (average {r['average_l1']:.4f}) L2 {r['hole_l2']:.5f}; nearest "
            f"{r['fills']['nearest'][0]:.4f} {r['fills']['nearest'][1]:.5f}; best {best} {r['fills'][best][0]:.4f} "
            f"{r['fills'][best][1]:.5f}; D {r['d_accuracy']:.2f}; {', '.join(words)}; {r['seconds']:.0f} s")  # fmt: skip


# --- the trials: the record of what was tried

_P70 = {"m.widths.discriminator": "patch70", "m.widths.discriminator_width": 8}
FINAL = {
    "custom": {"m.lr_g": 5e-4},
    "context_encoder": {"m.loss_weights.adversarial": 0.01},
    "free_form": _P70 | {"m.lr_g": 2e-3, "m.lr_d": 2e-3, "m.loss_weights.adversarial": 0.005},
}
TRIALS = [
    Trial("ff patch70 torch", "free_form", _P70, (2560,), initial="torch"),
    Trial("ff patch70 glorot", "free_form", _P70, (2560,), initial="glorot"),
    Trial("cu lr1e-3", "custom", {"m.lr_g": 1e-3}, (2560,)),
    Trial("ce as is", "context_encoder", {}, (2560, 5120)),
    Trial("ff glorot D1e-3 adv.1", "free_form", _P70 | {"m.lr_d": 1e-3, "m.loss_weights.adversarial": 0.1}, (2560,),
          initial="glorot"),
    Trial("ff glorot G2e-3 D1e-3", "free_form", _P70 | {"m.lr_g": 2e-3, "m.lr_d": 1e-3}, (2560,), initial="glorot"),
    Trial("ce D5e-5", "context_encoder", {"m.lr_d": 5e-5}, (2560,)),
    Trial("ff D1e-3", "free_form", _P70 | {"m.lr_d": 1e-3}, (2560,)),
    Trial("cu lr1e-3 torch", "custom", {"m.lr_g": 1e-3}, (2560,), initial="torch"),
    Trial("ff D1e-3 adv.1", "free_form", _P70 | {"m.lr_d": 1e-3, "m.loss_weights.adversarial": 0.1}, (2560,)),
    Trial("cu G2e-3", "custom", {"m.lr_g": 2e-3}, (2560,)),
    Trial("ce D2e-5", "context_encoder", {"m.lr_d": 2e-5}, (2560,)),
    Trial("ce adv.01", "context_encoder", {"m.loss_weights.adversarial": 0.01}, (2560,)),
    Trial("ff D2e-3 adv.02", "free_form", _P70 | {"m.lr_d": 2e-3, "m.loss_weights.adversarial": 0.02}, (2560,)),
    Trial("cu G5e-4", "custom", {"m.lr_g": 5e-4}, (2560,)),
    Trial("ce adv.05", "context_encoder", {"m.loss_weights.adversarial": 0.05}, (2560,)),
    Trial("ff G2e-3 D2e-3 adv.02", "free_form",
          _P70 | {"m.lr_g": 2e-3, "m.lr_d": 2e-3, "m.loss_weights.adversarial": 0.02}, (2560,)),
    Trial("ff D2e-3 adv.005", "free_form", _P70 | {"m.lr_d": 2e-3, "m.loss_weights.adversarial": 0.005}, (2560,)),
    Trial("cu G5e-4 adv.02", "custom", {"m.lr_g": 5e-4, "m.loss_weights.adversarial": 0.02}, (2560,)),
    Trial("ce D2e-5 long", "context_encoder", {"m.lr_d": 2e-5}, (2560, 5120, 12800)),
    Trial("final? ce adv.01", "context_encoder", {"m.loss_weights.adversarial": 0.01}, (2560, 5120)),
    Trial("final? ce adv.004 D1e-4", "context_encoder", {"m.lr_d": 1e-4, "m.loss_weights.adversarial": 0.004}, (2560, 5120)),
    Trial("final ff s1", "free_form", FINAL["free_form"], (2560,), seed=1),
    Trial("final cu s1", "custom", FINAL["custom"], (2560,), seed=1),
    Trial("final ff s0", "free_form", FINAL["free_form"], (2560,)),
    Trial("final ff s2", "free_form", FINAL["free_form"], (2560,), seed=2),
    Trial("final cu s2", "custom", FINAL["custom"], (2560,), seed=2),
    Trial("final ce s1", "context_encoder", FINAL["context_encoder"], (2560,), seed=1),
    Trial("final ce s2", "context_encoder", FINAL["context_encoder"], (2560,), seed=2),
    Trial("scenes ce", "context_encoder", FINAL["context_encoder"], (2560,), "scenes_apart"),
    Trial("scenes ff", "free_form", FINAL["free_form"], (2560,), "scenes_apart"),
    Trial("scenes cu", "custom", FINAL["custom"], (2560,), "scenes_apart"),
    Trial("scenes ce jitter", "context_encoder", FINAL["context_encoder"], (2560,), "scenes_apart", augment="jitter"),
    Trial("scenes ce flip", "context_encoder", FINAL["context_encoder"], (2560,), "scenes_apart", augment="flip"),
    Trial("scenes ff jitter", "free_form", FINAL["free_form"], (2560,), "scenes_apart", augment="jitter"),
    Trial("long cu", "custom", FINAL["custom"], (2560, 5120, 10240)),
    Trial("extra cu D1e-4", "custom", {"m.lr_g": 5e-4, "m.lr_d": 1e-4}, (2560,)),
    Trial("extra scenes overlapping ce", "context_encoder", FINAL["context_encoder"], (2560,), "scenes"),
    Trial("extra scenes ce scales jitter", "context_encoder", FINAL["context_encoder"], (2560,), "scenes_apart",
          augment="scales jitter"),
    Trial("extra scenes ce jitter long", "context_encoder", FINAL["context_encoder"], (5120,), "scenes_apart",
          augment="jitter"),
    Trial("long ff", "free_form", FINAL["free_form"], (2560, 5120, 10240)),
    Trial("last ce long", "context_encoder", FINAL["context_encoder"], (2560, 5120, 10240)),
    Trial("last scenes ce scales jitter long", "context_encoder", FINAL["context_encoder"], (5120, 10240), "scenes_apart",
          augment="scales jitter"),
]


def report(done):
    """reports/pilot.md: the hand-written head, then every measurement, per architecture."""
    notes = json.loads((FOLDER / "notes.json").read_text(encoding="utf-8"))
    lines = [(FOLDER / "head.md").read_text(encoding="utf-8").rstrip()]
    for architecture in dict.fromkeys(t.architecture for t in TRIALS):
        lines += ["", f"## All trials: {architecture}", "",
                  "| trial | seed | data | settings | images | hole L1 | L1, average | hole L2 | "
                  "minus nearest, 95 % | nearest L2 | best fill L2 | D | learnt, useful, alive | core-s | |",
                  "| --- " * 15 + "|"]  # fmt: skip
        for r in (r for r in done if r["architecture"] == architecture):
            settings = ", ".join(f"{k.removeprefix('m.').removeprefix('widths.')} {v}" for k, v in r["set"].items())
            settings += "" if r["initial"] == "library" else f"; {r['initial']} initial weights"
            low, high = r["intervals"]["nearest"]
            cells = [r["name"], r["seed"], r["dataset"] + {"none": ""}.get(r["augment"], f" {r['augment']}"),
                     settings or "as in tiny", f"{r['images']:,}", *(f"{r[k]:.4f}" for k in ("hole_l1", "average_l1")),
                     f"{r['hole_l2']:.5f}", f"{low:+.5f} .. {high:+.5f}", f"{r['fills']['nearest'][1]:.5f}",
                     f"{min(v[1] for v in r['fills'].values()):.5f}", f"{r['d_accuracy']:.2f}",
                     ", ".join("yes" if r[flag] else "no" for flag in ("learnt", "useful", "alive")), f"{r['seconds']:.0f}",
                     notes.get(r["name"], "")]  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
    path = config.ROOT / "reports" / "pilot.md"
    with files.replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv):
    parser = Parser(prog="benchmarks/pilot.py", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="run the trials whose names begin so (default: all)")
    parser.add_argument("--report", action="store_true", help="write reports/pilot.md")
    args = parser.parse_args(argv)
    path = FOLDER / "trials.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    if args.report:
        return report(done)
    finished = {json.dumps({k: v for k, v in r.items() if k in FIELDS}, sort_keys=True) for r in done}
    for trial in TRIALS:
        if args.names and not trial.name.startswith(tuple(args.names)):
            continue
        key = json.loads(json.dumps(dataclasses.asdict(trial)))
        if json.dumps(key, sort_keys=True) not in finished:
            records = train(trial)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(r) + "\n" for r in records)


if __name__ == "__main__":
    main(sys.argv[1:])
