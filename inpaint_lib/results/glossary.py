"""Explain every word of the report once: in its tooltips and in docs/glossary.md."""

import functools
import re

import yaml
from markupsafe import Markup, escape

from .. import models, setups
from ..data import sources
from . import health, hypotheses, notes

GAIN = "A gain is a lower error of the first setup than of the second."
WORDS = yaml.safe_load((notes.TEMPLATES / "glossary.yaml").read_text("utf-8"))
OTHERS = WORDS.pop("other forms")
IN_FILES = WORDS.pop("names in files")
COLUMNS = {  # of history.csv
    name: of if isinstance(of, str) else of["text"] for name, of in WORDS.pop("columns").items()
}


def list_terms():
    """Return {group: {term: its meaning}}, from glossary.yaml and the registries."""
    margin = f"{100 * hypotheses.read_plan().margin:g} %"
    rules = {r.title: f"{r.wrong} What to do: {r.advice}" for r in health.RULES.values()}
    found = WORDS | {"health": WORDS["health"] | rules}
    found["verdicts"] = {
        word: f"{text.format(margin=margin).capitalize()}."
        + f" {GAIN}" * ("gain" in text or "loss" in text)
        for word, text in notes.MEANING.items()
        if word != "diverged"
    }
    found["setups"] = {name: of.about for name, of in setups.SETUPS.items()}
    found["architectures"] = {name: of.about for name, of in models.ARCHITECTURES.items()}
    found["data sets"] = {
        name: of.about[0].upper()
        + of.about[1:]
        + (f". Used instead of {of.stands_in_for}" * bool(of.stands_in_for) + ".")
        for name, of in sources.DATASETS.items()
    }
    return found


def explain_terms():
    """Return {term: its meaning} of all groups, and of the logged columns as "column NAME"."""
    found = {term: text for group in list_terms().values() for term, text in group.items()}
    return found | {f"column {name}": text for name, text in COLUMNS.items()}


def make_key(term):
    """Return a term as an HTML id."""
    return re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


@functools.cache
def _forms():
    """Return {form of a term: the term}, and their pattern, the longest first."""
    words = [term for group, of in list_terms().items() if group != "mask families" for term in of]
    forms = {form: term for term in words for form in (term, *OTHERS.get(term, []))}
    forms |= {form[0].upper() + form[1:]: term for form, term in forms.items()}
    longest = sorted(forms, key=len, reverse=True)
    return forms, re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest))})(?![\w-])")


def make_button(term, text=None):
    """Return a term, or another text for it, as a button that opens its meaning."""
    shown = escape(text or term)
    return Markup('<button type="button" class="term" popovertarget="t-{}">{}</button>').format(
        make_key(term), shown
    )


def mark_terms(text, *, also=()):
    """Return plain text as escaped markup, the first use of each term a button.

    also: terms that get none."""
    forms, pattern = _forms()
    text, seen, parts, end = str(text), set(also), [], 0
    for found in pattern.finditer(text):
        term = forms[found[0]]
        if term not in seen:
            seen.add(term)
            parts += [escape(text[end : found.start()]), make_button(term, found[0])]
            end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


def to_markdown():
    """Return docs/glossary.md."""
    named = {}
    for name, term in IN_FILES.items():
        named.setdefault(term, []).append(f"`{name}`")
    text = "Every term, measure, setup, verdict, health rule and logged column, in a sentence each."
    command = "`./run_all.sh publish --docs`"
    lines = ["# What do the words mean?", "", text]
    lines += [f"The tooltips of the report show the same sentences. {command} writes this page."]
    lines += ["In brackets: how files name a measure or the region that it is taken over.", ""]
    for group, of in list_terms().items():
        lines += [f"## {group.capitalize()}", ""]
        for term, text in of.items():
            files = f" ({', '.join(named[term])})" if term in named else ""
            lines.append(f"- **{term}**{files}: {text}")
        lines.append("")
    lines += ["## Columns of history.csv", ""]
    lines += ["A row per log point. Values are means over the steps since the last log point,"]
    lines += ["unless the sentence says otherwise.", ""]
    lines += [f"- `{name}`: {text}" for name, text in COLUMNS.items()]
    return "\n".join(lines) + "\n"
