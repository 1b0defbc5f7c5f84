"""./run_all.sh publish PROFILE NAME [options]: add a study's finished runs to reports/published/NAME.

The options that say which study it is are those of ./run_all.sh PROFILE.
"""

import sys

from inpaint_lib.results import published
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, ended, fail, say

from .arguments import grid_options, overrides_of


def main(argv):
    what = "Add finished runs to a published study, without networks and images."
    parser = Parser(prog="run_all.sh publish", description=what)
    parser.add_argument("profile", metavar="PROFILE", help="the profile they were trained with")
    parser.add_argument("name", metavar="NAME", help="of the published study, below reports/published; or a folder, with a /")
    grid_options(parser)
    try:
        args = parser.parse_args(argv)
        overrides = overrides_of(args)
        study = grid.open_study(args.profile, overrides)
        with files.writing(published.place(args.name) / "study.json"):
            say(*published.publish(study, args.name, overrides))
    except (ValueError, OSError) as error:
        return fail(2, error)
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
