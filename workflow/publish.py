"""./run_all.sh publish PROFILE NAME [options]: add finished runs to reports/published/NAME.

The options that say which study it is are those of ./run_all.sh PROFILE. Two commands are for a
study that is published:

./run_all.sh publish --rebuild NAME
    rebuilds its tables, figures and README.md from its saved values
./run_all.sh publish --front NAME
    writes its block in README.md of the repository
"""

import argparse
import sys
from pathlib import Path

from inpaint_lib.results import collect, published, summary
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, ended, fail, say

from .arguments import overrides_of, study_parser

PAGE = files.ROOT / "README.md"


def add(argv):
    """Add runs to a published study -> lines to print."""
    parser = study_parser(
        "run_all.sh publish", "Add finished runs to a published study.", None, None
    )
    parser.add_argument("name", metavar="NAME", help="of the published study, or its folder")
    args = parser.parse_args(argv)
    study = grid.open_study(args.profile, overrides_of(args))
    return published.publish(collect.collect(study, partial=True), args.name)


def derive(argv):
    """Rewrite what follows from a published study's saved values -> lines to print."""
    parser = Parser(prog="run_all.sh publish", formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rebuild", metavar="NAME", help="tables, figures and README.md of it")
    parser.add_argument("--front", metavar="NAME", help="its block in PAGE")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: README.md")
    args = parser.parse_args(argv)
    base, results = published.opened(args.rebuild or args.front)
    if args.rebuild:
        published.rebuild(results, base)
        return [f"{base}: tables, figures and README.md rebuilt"]
    text = summary.filled(args.page.read_text(encoding="utf-8"), results)
    with files.replacing(args.page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [f"{args.page}: the block of {args.front} is written"]


def main(argv):
    try:
        say(*(derive if argv[:1] in (["--rebuild"], ["--front"]) else add)(argv))
    except (ValueError, OSError) as error:
        return fail(2, error)
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
