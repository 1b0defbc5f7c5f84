"""A study is opened as a profile describes it, or as its last command did."""

from inpaint_lib.study import files, grid
from tests.conftest import MICRO


def test_a_study_is_reopened_with_the_settings_of_its_last_command(output, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: smoke\n")
    for given in ("smoke", profile):
        plain = grid.open_study(given)
        assert grid.reopen_study(given) == plain
        last = {"profile": plain.source, "overrides": MICRO}
        files.write_json(plain.folder / "study.json", {"parameters": {"grid": last}})
        assert grid.reopen_study(given) == grid.open_study(given, MICRO) != plain
