"""Write sentences about a study's estimates, and check a person's text about its surprises.

In that text (surprised.md) numbers are filled in from the results, and directions are checked."""

import jinja2
import numpy as np
from jinja2.sandbox import SandboxedEnvironment

from . import hypotheses, notes, select, standing, stats

BEAT = {"l1": "below_trivial_l1", "l2": "beats_trivial"}


def describe_estimates(results):
    """Return (question, answer) of estimates on exposure and on the adversarial game."""
    judged = stats.judge(results)
    found = {
        "What does the time spent on the largest hole change?": _exposure(results, judged),
        "Is the adversarial game steadier?": _game(results, judged),
    }
    return [(name, " ".join(texts)) for name, texts in found.items() if texts]


def _exposure(results, judged):
    rows = judged[(judged.metric == "l1") & (judged.region == "hole") & (judged.width == "largest")]
    rows = rows[rows["first"] == "progressive"]
    n, found = len(results.widths), []
    for setup, what in (
        ("mixed", "which spends as many steps on it, spread over the training"),
        ("last_only", "which trains on it for as many steps, and on nothing before"),
        ("long_last", "which spends half of its steps on the largest hole"),
    ):
        if len(part := rows[rows.second == setup].dropna(subset="effect")):
            told = notes.describe_effects(part.effect, setup)
            who = "It is" if found else "In the largest hole progressive's error is"
            found.append(f"{who} {told}, {what}.")
    first = f"progressive spends one step in {n} on the largest hole, fixed every step."
    return [first, *found] if found else []


def _game(results, judged):
    runs, counts = standing.judge_runs(results), []
    for setup in select.ASKED:
        of = runs[(runs.setup == setup) & runs.has_game]
        if len(of):
            counts.append(f"{of.always_active.sum()} of {len(of)} runs of {setup}")
    rows = judged[(judged.metric == "stability") & (judged["second"] == "fixed")]
    rows = rows[rows["first"] == "progressive"].dropna(subset="effect")
    if not len(rows):
        return []
    told = notes.describe_effects(rows.effect, "fixed")
    found = [
        f"The game is active in every stage of {', '.join(counts)}.",
        "Stability is compared where it is active in the last stage of all runs of both setups: "
        f"there the variation of G's adversarial loss under progressive is {told}.",
    ]
    if few := rows.remark.str.contains(stats.TOO_FEW).sum():
        lacking = f"{stats.TOO_FEW} a difference of {100 * hypotheses.read_plan().stability:g} %"
        found.append(f"In {few} of {len(rows)} there are {lacking}.")
    return found


class Claims:
    """The functions that surprised.md may call; `wrong` lists claims that do not hold.

    lower, higher(first, second, dataset, architecture, width, measure="hole L1"): how much lower or
    higher a measure of config/hypotheses.yaml is for the first setup, in per cent; width "largest",
    "smallest", "all" or pixels. error(setup,
    dataset, architecture, width, stage): mean hole L1, on the images that every stage is measured
    on. rises, falls(setup, dataset, architecture, width): how error goes from the first stage to
    the last. active(setup, dataset, architecture): in how many runs the game is active in every
    stage. beat(dataset, metric): how many runs beat both trivial baselines in "l1" or "l2"."""

    def __init__(self, results):
        self.results, self.wrong = results, []
        known = self.lower, self.higher, self.error, self.rises, self.falls
        known += self.active, self.beat
        self.names = {f.__name__: f for f in known}

    def _of(self, frame, *cell):
        rows = select.get_cell(frame, *cell)
        if rows.empty:
            raise ValueError(f"{', '.join(cell)} has no published run: correct the names")
        return rows

    def effect(self, first, second, dataset, architecture, width, measure="hole L1"):
        """Return the mean ratio of two setups minus one, and a text that names the comparison."""
        measures = {of.name: of for of in hypotheses.read_plan().measures if of.scale == "ratio"}
        if measure not in measures:
            raise ValueError(f"{measure!r} is no measure: one of {', '.join(measures)}")
        of = measures[measure]
        rows = self._of(select.get_compared(self.results), dataset, architecture)
        rows = rows[(rows.region == of.region) & (rows.metric == of.metric)]
        rows = rows[rows.width == select.name_widths(self.results).get(width, width)]
        wide = stats.pair_values(self.results, rows, first, second)
        what = f"{first} against {second}, {dataset}, {architecture}, {measure}, width {width}"
        if wide.empty:
            raise ValueError(f"{what}: no pair of runs is published")
        return np.expm1(np.log(wide[first] / wide[second]).mean()), what

    def lower(self, *of):
        return self._directed(-1, *of)

    def higher(self, *of):
        return self._directed(1, *of)

    def _directed(self, sign, *of):
        """Return an effect in words; add it to `wrong` if its sign is not the given one."""
        value, what = self.effect(*of)
        said, true = (
            f"{abs(100 * value):.1f} % {'lower' if s < 0 else 'higher'}" for s in (sign, value)
        )
        if said != true:
            self.wrong.append(f"{what}: is {true}")
        return true

    def error(self, *of):
        return f"{self._error(*of):.3f}"

    def _error(self, setup, dataset, architecture, width, stage):
        rows = self._of(select.get_by_stage(self.results), dataset, architecture)
        rows = rows[(rows.setup == setup) & (rows.mask_width == width) & (rows.stage == stage)]
        if rows.empty:
            what = f"{setup}, {dataset}, {architecture}, width {width}, stage {stage}"
            raise ValueError(f"{what}: no error is published")
        return rows[rows.metric == "l1"].value.mean()

    def rises(self, *of):
        return self._goes("rises", *of)

    def falls(self, *of):
        return self._goes("falls", *of)

    def _goes(self, said, *of):
        """Return the errors after the first and last stage in words; note a wrong direction."""
        first, last = (self._error(*of, stage) for stage in (1, len(self.results.widths)))
        true = "falls" if last < first else "rises"
        if said != true:
            self.wrong.append(f"error of {', '.join(map(str, of))} px: {true}")
        return f"{true} from {first:.3f} to {last:.3f}"

    def active(self, setup, dataset, architecture):
        rows = self._of(standing.judge_runs(self.results), dataset, architecture)
        rows = rows[(rows.setup == setup) & rows.has_game]
        if rows.empty:
            raise ValueError(f"{setup}, {dataset}, {architecture}: no run with a game is published")
        return f"{rows.always_active.sum()} of {len(rows)}"

    def beat(self, dataset, metric):
        runs = standing.judge_runs(self.results)
        flags = runs[runs.dataset == dataset][BEAT[metric]]
        return f"{flags.sum()} of {len(flags)}"


def fill_surprises(results, text):
    """Return (the text with its numbers filled in, a list of its wrong claims).

    Raises ValueError for unknown names, and for a text that is no template."""
    claims = Claims(results)
    # a text that somebody contributed is no code to run
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    try:
        return environment.from_string(text).render(claims.names).strip(), claims.wrong
    except (jinja2.TemplateError, TypeError, KeyError, ArithmeticError) as error:
        raise ValueError(str(error)) from None
