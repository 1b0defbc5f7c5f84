"""./run_all.sh show PROFILE [options]: print the resolved configuration as YAML."""

import sys

import yaml

from inpaint_lib.study import config
from inpaint_lib.study.command import ended, fail, say

from .arguments import overrides_of, study_parser


def main(argv):
    parser = study_parser("run_all.sh show", "Print a profile with all it extends.", profile=None)
    try:
        args = parser.parse_args(argv)
        found = config.load(args.profile, overrides_of(args))
    except ValueError as error:
        return fail(2, error)
    text = yaml.safe_dump(config.to_dict(found), sort_keys=False, default_flow_style=None)
    say(*text.splitlines())
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
