"""./run_all.sh export and score: measure fills that other methods made.

Both raise ValueError or OSError for what they refuse.
"""

from inpaint_lib.data import packs
from inpaint_lib.evaluation import external
from inpaint_lib.study import grid
from inpaint_lib.study.command import Parser, say

from .arguments import read_overrides
from .commands import lock_study, parse_study, read_state, rebuild_report


def export(argv):
    """Write a data set's frozen test images, masks and inputs as PNG into FOLDER.

    manifest.json there says how to name filled images for ./run_all.sh score.
    """
    study, args = parse_study(export, argv, "dataset", "folder")
    study = study if read_overrides(args) else grid.reopen_study(args.profile)
    pack = _prepare_pack(study, args.dataset)
    external.export(pack, study.profile, args.dataset, args.folder)
    say(f"{args.folder}: {len(pack.test)} test images of {args.dataset}; see manifest.json there")


def score(argv):
    """Measure images that another method filled (see export); add them to tables and report."""
    parser = Parser(prog="run_all.sh score", description=score.__doc__)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="outputs' folder; manifest.json in it or in its parent")
    add("--name", required=True, help="name of their row in the tables")
    add("--profile", help="profile whose images were filled (default: the manifest's)")
    add("--dataset", help="which of them (default: the manifest's)")
    add("--overwrite", action="store_true", help="replace other outputs of this name")
    args = parser.parse_args(argv)
    path, manifest = external.find_manifest(args.folder)
    if not (path or (args.profile and args.dataset)):
        what = f"no {external.MANIFEST} in it or around it"
        raise ValueError(f"{args.folder}: {what}: copy it there, or give --profile and --dataset")
    dataset = args.dataset or manifest["dataset"]
    study = grid.reopen_study(args.profile or manifest["profile"])
    pack = _prepare_pack(study, dataset)
    say(*external.score(study, dataset, pack, args.folder, args.name, args.overwrite)[1])
    if not all(read_state(run)[0] in ("finished", "diverged") for run in study.runs()):
        return say(f"tables and report follow with the runs: ./run_all.sh {study.profile}")
    with lock_study(study):
        rebuild_report(study, "report")
    say(f"{study.report / 'index.html'} and the tables have a row of {args.name}")


def _prepare_pack(study, dataset):
    """Return the Pack of a study's data set, made if needed. Raises ValueError."""
    if dataset not in study.config.grid.datasets:
        has = ", ".join(study.config.grid.datasets)
        raise ValueError(f"profile {study.profile} has no data set {dataset}: choose one of {has}")
    return packs.prepare(study, dataset)


COMMANDS = {"export": export, "score": score}
