"""Every word, measure and logged column of a study is explained, once."""

import re

from inpaint_lib import masks, models, setups
from inpaint_lib.data import sources
from inpaint_lib.evaluation import measures
from inpaint_lib.results import frames, glossary, health, hypotheses, published, stats


def test_every_term_is_a_sentence_and_is_marked_once():
    known = glossary.explain_terms()
    assert not set(glossary.OTHERS) - set(known) and all(text[-1] in "." for text in known.values())
    marked = glossary.mark_terms("The hole L1 of holes, hole L1.")
    assert re.findall(r't-([a-z0-9-]+)">', marked) == ["hole-l1", "hole"]


def test_what_the_code_names_is_in_the_glossary():
    known = glossary.explain_terms()
    names = {*setups.SETUPS, *models.ARCHITECTURES, *sources.DATASETS, *masks.FAMILIES}
    names |= {rule.title for rule in health.RULES.values()} | {*stats.WORDS}
    assert names <= set(known)


def test_every_measure_and_region_has_a_term():
    names = {name for pair in measures.MEASURES for name in pair}
    assert names == set(glossary.IN_FILES) and set(glossary.IN_FILES.values()) <= set(
        glossary.explain_terms()
    )
    for measure in hypotheses.read_plan().measures:
        assert measure.name in names or "popovertarget" in glossary.mark_terms(measure.name)


def test_every_logged_column_has_a_sentence():
    results = frames.load(published.FOLDER / "small")
    logged = set(results.history.dropna(axis=1, how="all")) - set(frames.RUN)
    assert logged == set(glossary.COLUMNS), "of published runs of all architectures"
