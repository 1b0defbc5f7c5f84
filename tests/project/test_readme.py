"""What README and docs/ promise: every command is taken, every link leads somewhere, every
sentence of the paper is there, and no page has words that only the project's authors understand.
"""

import contextlib
import io
import re
import shlex
import tokenize
from functools import cache

import nbformat
import pytest

from inpaint_lib.photos import inpaint
from inpaint_lib.results import ledger
from inpaint_lib.study import config
from tests.project.test_bench import bench
from tests.workflow.commands import ROOT
from workflow import __main__ as command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = {
    "inpaint",
    "bench",
    "publish",
    "verify",
    "show",
    "status",
    "clean",
    "export",
    "score",
}  # with a --help of their own


def commands():
    """Every ./run_all.sh ... in the pages, as words: [(page, words)]."""
    start, found = r"^(?: {4}|\| `)(?:\S+=\S+ |srun \S+ )?\./run_all\.sh *", []
    for page in PAGES:
        lines = re.findall(rf"{start}([^`\n]*)", page.read_text(), re.M)
        found += [(page.name, shlex.split(line, comments=True)) for line in lines]
    assert {"README.md", "clusters.md", "photos.md"} <= {page for page, _ in found}
    return found


@cache
def help_of(*name):
    main = {("inpaint",): inpaint.main, ("bench",): bench.main}.get(name)
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        main(["--help"]) if main else command.main([*name, "--help"])
    assert not ended.value.code
    return out.getvalue()


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*c, id=f"{c[0]}: {' '.join(c[1])}") for c in commands()]
)
def test_a_command_shown_exists_and_help_knows_its_options(page, words):
    name = [words[0]] if words and words[0] in OTHERS else []
    if words and words[0] in ("test", "lab"):  # what follows is pytest's or Jupyter's
        assert words[0] in help_of()
        return
    if words and not name and not words[0].startswith("-"):
        assert words[0] in (*config.list_profiles(), "PROFILE"), f"{page}: no profile {words[0]}"
    for option in (word.partition("=")[0] for word in words if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(*name)), f"{page}: {option}"


def anchor(heading):
    """Return the address that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for name, part in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), name
        if part:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert part in map(anchor, headings), f"{name}#{part}"


def test_a_newcomer_reads_the_readme_to_its_end():
    page = (ROOT / "README.md").read_text()
    assert len(page.splitlines()) <= 130
    for other in PAGES[1:]:
        assert f"(docs/{other.name})" in page, f"README.md leads to every page: {other.name}"
        title, text = other.read_text().split("\n", 1)
        assert title.startswith("# ") and title.endswith("?"), f"{other.name}: one page, a question"
        assert len(text.splitlines()) <= 110 or other.name in ("glossary.md", "results.md")


PRIVATE = {  # a word of ours: what to write instead
    r"fillings": "baselines, fills",
    r"full-size holes?": "largest hole",
    r"learnt": "learned; beats the trivial baselines",
    r"levers?": "options",
    r"mends?|mended|cures?": "fix",
    r"reckon\w*": "estimate",
    r"(is|are) (said|told)": "is reported; the message names",
    r"at hand|(can|could) be had": "available",
    r"at rest|at work": "with frozen networks; during evaluation",
    r"what (came|became) of": "status, outcome",
    r"whole (files?|runs?|pairs?|stud(y|ies)|archives?)": "complete",
    r"rooms? of (its|their) own": "a package",
    r"wants|asks": "needs, requires",
    r"other(wise)? than": "different from",
    r"unasked": "without --force-new",
    r"anew": "again, rebuilt",
    r"troubles?|odd": "error, unusual",
    r"first touch": "without changes",
    r"made up(?! of)": "simulated",
    r"stands? in for|stand-ins?": "replaces, is used instead of",
    r"one's own": "your own",
    r"hears|buries|buried": "say who does what",
}
SPOKEN = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
WORDS = re.compile("|".join(rf"\b(?:{word})\b" for word in PRIVATE), re.I)


def texts():
    """Return {name: text} of what people read: of Python files the comments and strings."""
    places = ("README.md", "docs/*.md", "reports/*.md", "reports/benchmarks/*.md", "config/*.yaml")
    places += ("benchmarks/*.md", "CITATION.cff", "inpaint_lib/**/templates/*.[jy]*", "run_all.sh")
    places += ("inpaint_lib/**/*.js", "workflow/Snakefile", "workflow/profiles/*/*.yaml")
    found = {path: path.read_text() for place in places for path in sorted(ROOT.glob(place))}
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = nbformat.read(path, nbformat.NO_CONVERT).cells
        found[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for place in ("inpaint_lib", "workflow", "benchmarks", "examples"):
        for path in sorted((ROOT / place).rglob("*.py")):
            parts = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
            found[path] = "\n".join(part.string for part in parts if part.type in SPOKEN)
    return {str(path.relative_to(ROOT)): text for path, text in found.items()}


def test_no_text_has_private_words():
    code = r"`[^`\n]+`|\{[{%].*?[%}]\}|[\w.]*stands_in_for"  # names in the code may be anything
    plain = {name: re.sub(code, "", text) for name, text in texts().items()}
    found = {name: [m[0] for m in WORDS.finditer(text)] for name, text in plain.items()}
    assert not {k: v for k, v in found.items() if v}, "use plain words (PRIVATE has some)"


def test_the_pages_say_of_published_studies_what_their_values_say():
    for path, text in ledger.render_pages().items():
        assert path.read_text() == text, f"{path.name}: ./run_all.sh publish --docs writes it"
    assert "<!-- published small -->" in (ROOT / "README.md").read_text()


def test_every_place_that_fidelity_names_is_there():
    """`losses.py`, `OBJECTIVES["custom"]`: the file, and in it the name."""
    lines = (ROOT / "docs/fidelity.md").read_text().splitlines()
    rows = [line.split("|")[2] for line in lines if line.startswith("| ")]
    found = 0
    for row in rows:
        text = None
        for code in re.findall(r"`([^`]+)`", row):
            if code.endswith(".py"):
                text, found = (ROOT / "inpaint_lib" / code).read_text(), found + 1
            elif text and (name := re.fullmatch(r"(?:\w+\.)?(\w+)(?:\[.*\])?", code)):
                assert name[1] in text, (row, code)
    assert found > 15
