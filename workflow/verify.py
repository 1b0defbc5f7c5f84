"""./run_all.sh verify NAME: make every table of a published study anew from its files, and compare byte for byte."""

import os
import sys

from inpaint_lib.results import published
from inpaint_lib.study.command import Parser, ended, fail, say


def main(argv):
    parser = Parser(prog="run_all.sh verify", description="Make a published study's tables anew from its files, and compare.")
    parser.add_argument("name", metavar="NAME", help="of the published study, below reports/published; or a folder, with a /")
    try:
        name = parser.parse_args(argv).name
        wrong = published.verify(name)
        base = published.place(name)
        if wrong:
            say(*wrong)
            return fail(1, f"{base.name}: {len(wrong)} differences; the published study is not what its files say")
        say(f"{base.name}: tables, verdicts, figures and README follow from the files of {len(published.names(base))} runs")
        say(os.path.relpath(base / "index.html"))
    except (ValueError, OSError) as error:
        return fail(2, error)
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
