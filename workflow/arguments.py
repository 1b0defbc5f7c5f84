"""Parse the command line of a study. `--help` works before anything is installed."""

import argparse
import os
from pathlib import Path

from inpaint_lib.study.command import Parser

ROOT = Path(__file__).resolve().parent.parent
LISTS = ("datasets", "architectures", "setups", "seeds")
OPTIONS = {"jobs": "machine.jobs", "data_root": "machine.data_root", "masks": "machine.masks"}
OPTIONS |= {"initial_weights": "initial_weights"}
OTHERS = """other commands:
  run_all.sh show PROFILE              print every setting of a profile
  run_all.sh status PROFILE            which runs are finished, running, interrupted or missing
  run_all.sh clean PROFILE [--yes]     list files that nothing needs any more; remove them
  run_all.sh lab [jupyter options]     JupyterLab on copies of the notebooks, in lab/
  run_all.sh lab --edits | --take NAME list edits of the copies; write those of NAME to notebooks/
  run_all.sh inpaint PHOTO ...         fill holes in your own photos: inpaint --help
  run_all.sh export PROFILE DATASET DIR  write test images and holes as PNG, for other methods
  run_all.sh score DIR --name NAME     measure outputs of other methods
  run_all.sh publish PROFILE NAME      add finished runs to reports/published/NAME
  run_all.sh verify NAME               rebuild a published study's tables from its files
  run_all.sh test [pytest arguments]   run all tests
  run_all.sh bench [--quick]           training speed against a textbook loop

environment: INPAINT_ENV=current uses the active Python as it is; INPAINT_PYTHON names the Python to
install with, INPAINT_VENV the environment's folder; INPAINT_OUTPUT=DIR writes results there."""


def parse_arguments(argv):
    """Return the parsed command line. Raises ValueError."""
    parser = make_parser(
        "run_all.sh",
        "Prepare data, train, measure, draw and write reports/PROFILE/index.html.\n"
        "Finished steps that are still valid are not repeated.",
        OTHERS,
    )
    add = parser.add_argument
    add("--download", action="store_true", help="download missing images to --data-root (celeba)")
    add("--jobs", type=int, metavar="N", help="train N runs at a time (default: the profile's)")
    gpus = {"type": int, "default": 1, "choices": range(1, 17), "metavar": "N"}
    add("--runs-per-gpu", help="let N runs share a GPU of this machine (default: 1)", **gpus)
    add(
        "--cluster", choices=("slurm",), help="submit every step as a job; --jobs N: N in the queue"
    )
    add("--only", choices=("tables", "report"), help="make these again from finished runs")
    add("--skip-published", action="store_true", help="leave out published runs")
    add("--force-new", action="store_true", help="delete and retrain runs whose settings differ")
    add("--estimate", action="store_true", help="time a few steps here and print the hours needed")
    add("--dry-run", action="store_true", help="print how many steps would run")
    args = parser.parse_args(argv)
    if args.only and args.dry_run:
        parser.error("--only rebuilds at once: leave out --dry-run")
    return args


def make_parser(prog, description, epilog=None, profile="tiny"):
    """Return a parser of the options that name a study; PROFILE is required without `profile`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog=prog, formatter_class=raw, description=description, epilog=epilog)
    names = sorted({p.stem for p in (ROOT / "config").glob("*.yaml")} - {"base", "hypotheses"})
    text = f"one of {', '.join(names)}" + (f" (default: {profile})" if profile else "")
    nargs = {"nargs": "?", "default": profile} if profile else {}
    add = parser.add_argument
    add("profile", metavar="PROFILE", help=text, **nargs)
    for name in LISTS:
        add(f"--{name}", metavar="A,B", help=f"only these {name} (default: the profile's)")
    add("--data-root", metavar="DIR", help="folder of celeba, coco or your images")
    add("--data", metavar="DIR", help="your images: short for --datasets folder --data-root DIR")
    help = "start from a run, a published network or a .safetensors file (docs/own_images.md)"
    add("--from", dest="initial_weights", metavar="RUN_OR_FILE", help=help)
    add("--masks", metavar="DIR", help="folder of your masks, white = hole, to measure or train on")
    help = "change a setting, e.g. --set models.custom.lr_g=1e-4 (show PROFILE lists them)"
    add("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help=help)
    return parser


def read_overrides(args):
    """Return the configuration keys that the command line sets. Raises ValueError."""
    import yaml

    from inpaint_lib.study.config import FOLDERS, WEIGHTS

    given, overrides = vars(args), {}
    if args.data is not None:
        if args.datasets or args.data_root:
            raise ValueError("--data DIR names the images: leave out --datasets and --data-root")
        given = given | {"datasets": "folder", "data_root": args.data}
    lists = [f"grid.{name}=[{given[name]}]" for name in LISTS if given[name] is not None]
    for item in [*args.settings, *lists]:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set {item}: write it as KEY=VALUE")
        try:
            overrides[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            what = f"--set {item}: {value!r} is not a YAML value: put it in quotes"
            raise ValueError(what) from None
    for name, key in OPTIONS.items():
        if given.get(name) is not None:
            overrides[key] = given[name]
    for key, value in overrides.items():  # every process has a working directory of its own
        path = os.path.expanduser(str(value))
        if value and (key in FOLDERS or (key in WEIGHTS and os.path.exists(path))):
            overrides[key] = os.path.realpath(path)
    if own := overrides.get("extensions"):
        own = own if isinstance(own, list) else [own]
        overrides["extensions"] = [os.path.abspath(os.path.expanduser(str(name))) for name in own]
    return overrides
