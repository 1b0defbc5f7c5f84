"""./run_all.sh verify NAME: rebuild a published study's tables from its values, and compare."""

import sys

from inpaint_lib.results import published
from inpaint_lib.study.command import Parser, ended, fail, say


def main(argv):
    what = "Rebuild a published study's tables, verdicts and README.md, and compare."
    parser = Parser(prog="run_all.sh verify", description=what)
    parser.add_argument(
        "name", metavar="NAME", help="of the published study, or its folder (with a /)"
    )
    try:
        name = parser.parse_args(argv).name
        wrong = published.verify(name)
    except (ValueError, OSError) as error:
        return fail(2, error)
    if wrong:
        say(*wrong)
        return fail(1, f"{name}: {len(wrong)} files are not what the saved values say")
    say(f"{name}: tables, verdicts and README.md follow from the saved values")
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
