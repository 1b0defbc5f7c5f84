"""The command line of the study. Free of the library and of the environment: `--help` works without either."""

import argparse
import os
from pathlib import Path

from inpaint_lib.study import command

ROOT = Path(__file__).resolve().parent.parent
LISTS = {"datasets": "data sets", "architectures": "architectures", "setups": "training setups"}


def arguments(argv):
    """The command line. Raises ValueError."""
    profiles = ", ".join(sorted(p.stem for p in (ROOT / "config").glob("*.yaml") if p.stem != "hypotheses"))
    parser = command.Parser(
        prog="run_all.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prepare data, train, measure, draw and write reports/PROFILE/index.html. What is already done and\n"
        "still valid is not done again.",
        epilog="other commands:\n"
        "  run_all.sh test [pytest arguments]   set up everything and run all tests\n"
        "  run_all.sh lab [jupyter arguments]   JupyterLab on localhost\n"
        "  run_all.sh reliability [--quick]     kills, hostile disks, bad input, a Slurm cluster: an hour or more (minutes)\n"
        "  run_all.sh bench [--quick] [--case SIZE:ARCHITECTURE]   training speed against a textbook loop: 10 minutes (2)\n"
        "  run_all.sh compare A B               what differs between two runs or two reports (their folders)\n"
        "  run_all.sh publish PROFILE NAME      add finished runs to reports/published/NAME, without networks and images\n"
        "  run_all.sh verify NAME               make the tables of a published study anew from its files, and compare\n"
        "  run_all.sh inpaint PHOTO (--mask MASK | --box x,y,w,h) --weights RUN -o OUT.png   fill holes in your own photos\n\n"
        "one's own images: run_all.sh smoke --datasets folder --data-root DIR\n\n"
        "environment: INPAINT_ENV=current uses the active Python as it is; INPAINT_OUTPUT=DIR writes runs/ and\n"
        "reports/ there instead of here.",
    )
    parser.add_argument("profile", nargs="?", default="tiny", help=f"one of {profiles} (default: tiny)")
    grid_options(parser)
    parser.add_argument(
        "--download", action="store_true", help="fetch what is missing there, if the data set's own library offers it (celeba)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: the profile's)")
    parser.add_argument("--runs-per-gpu", type=int, metavar="N", help="runs that share a GPU at a time (default: 1)")
    parser.add_argument("--cluster", metavar="slurm", help="submit every step as a job; --jobs N: in the queue at a time")
    parser.add_argument("--only", choices=("tables", "report"), help="rebuild these from runs/ alone, in seconds")
    parser.add_argument("--force-new", action="store_true",
                        help="delete runs that were made with other settings, and make them anew")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="train also what is published (reports/published) already")
    parser.add_argument("--estimate", action="store_true",
                        help="time some steps here, print hours, disk and memory of every run, and do no more")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what would be done, and do none of it")

    return parser.parse_args(argv)


def grid_options(parser):
    """The options that say which study is meant."""
    for name, what in LISTS.items():
        parser.add_argument(f"--{name}", metavar="A,B", help=f"only these {what} (default: the profile's)")
    parser.add_argument("--seeds", metavar="0,1", help="training seeds (default: the profile's)")
    parser.add_argument("--data-root", metavar="DIR", help="where the images of celeba, coco or folder lie")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                        help="any configuration key, e.g. --set total_images=7680 --set models.custom.lr_g=1e-4")  # fmt: skip


def overrides_of(args):
    """The configuration keys the command line sets. Raises ValueError."""
    import yaml

    overrides = {}
    for item in args.settings:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set {item}: write it as KEY=VALUE")
        try:
            overrides[key] = yaml.safe_load(value)
        except Exception:  # the reader lets more than its own errors through
            raise ValueError(f"--set {item}: {value!r} is no YAML value; put it in quotes") from None
    for name in LISTS:
        if getattr(args, name) is not None:
            overrides[name] = getattr(args, name).split(",")
    if args.seeds is not None:
        try:
            overrides["seeds"] = [int(seed) for seed in args.seeds.split(",")]
        except ValueError:
            raise ValueError(f"--seeds {args.seeds}: give whole numbers separated by commas") from None
    if getattr(args, "jobs", None) is not None:
        overrides["jobs"] = args.jobs
    if args.data_root is not None:
        overrides["data_root"] = args.data_root
    if overrides.get("data_root"):  # every process has a working directory of its own
        overrides["data_root"] = os.path.realpath(os.path.expanduser(str(overrides["data_root"])))
    for key in ("perceptual_weights", "inception_weights"):
        if os.path.isfile(str(overrides.get(key))):
            overrides[key] = os.path.realpath(overrides[key])
    return overrides
