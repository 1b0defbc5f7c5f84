"""The ledger has a row per published question and cell, and says whose runs they are."""

import dataclasses

import pytest

from inpaint_lib.results import ledger, published, stats
from tests.results import synthetic
from tests.results.test_published import SMALL


def rows(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def made(*seeds, commit="aaa", **more):
    results = synthetic.study(**SMALL, seeds=seeds, profile="small", **more)
    return dataclasses.replace(results, runs=results.runs.assign(commit=commit))


def test_a_row_says_seeds_word_interval_and_whose_runs_they_are():
    few, many = (synthetic.study(name=f"s{n}", profile="small", seeds=range(n)) for n in (2, 10))
    found = rows(ledger.render_ledger([few, many]))
    assert len(found) == len(stats.get_questions(stats.judge(few))) * 2
    assert {row["verdict"] for row in found if row["study"].startswith("[s2]")} == {"none yet"}
    row = next(row for row in found if row["study"].startswith("[s10]"))
    assert row["study"] == "[s10](../reports/published/s10/README.md)" and row["seeds"] == "10"
    assert row["verdict"] == "supported" and row["by"] == ledger.NOBODY
    assert row["interval"].count("%") == 2 and row["effect"].startswith("-")
    assert "`synthetic` is exploratory and provisional." in ledger.render_ledger([made(0, 1, 2)])
    assert rows(
        ledger.render_ledger([])
    ) == [] and "No study is published." in ledger.render_ledger([])


def test_whoever_publishes_a_seed_is_named_and_nobody_takes_anothers(shelf, undrawn):  # noqa: F811
    published.publish(made(0, 1), "mine")
    published.publish(made(1, 2, commit="bbb"), "mine", "Ada O'Neil (@ada)")
    published.publish(made(2, 3, commit="ccc"), "mine", "Bo")
    about = published.open_published("mine")[1].about
    assert {name: name[-5:] for name in about["who"]} == {
        f"faces/custom/{setup}/{seed}": seed
        for setup in ("fixed", "progressive")
        for seed in ("seed2", "seed3")
    }
    (row,) = [
        r
        for r in rows(ledger.render_ledger([published.open_published("mine")[1]]))
        if r["question"] == "Q1"
    ]
    assert row["by"] == "this project, Ada O'Neil (@ada), Bo" and row["commit"] == "aaa, bbb, ccc"
    assert published.verify("mine") == []


@pytest.mark.parametrize("who", ["a|b", "<b>", "two\nlines", "x" * 81, "[a](b)", "\x1b[0m", "`x`"])
def test_a_name_that_would_break_the_page_is_refused(shelf, undrawn, who):  # noqa: F811
    with pytest.raises(ValueError, match="--who"):
        published.publish(made(0), "mine", who)
    assert not (shelf / "mine").exists()


def test_a_seed_that_is_not_registered_or_a_setup_that_is_not_asked_for_names_nobody():
    results = made(0, 12)
    who = {"faces/custom/fixed/seed12": "Late", "faces/custom/fixed/seed0": "Early"}
    results = dataclasses.replace(results, about=results.about | {"who": who})
    assert {row["by"] for row in rows(ledger.render_ledger([results]))} == {"Early, this project"}
