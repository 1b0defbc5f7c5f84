"""Draw a report's figures: KINDS. Their captions are in templates/captions.yaml.

A kind is drawn once for the study, for every data set, or for every data set and architecture. Its
function returns None if the study lacks what it shows."""

import numpy as np
import pandas as pd
import yaml
from IPython.display import display

from ..setups import SETUPS
from . import frames, hypotheses, pictures, plots, select, standing, stats, tables

CAPTIONS = yaml.safe_load((plots.TEMPLATES / "captions.yaml").read_text("utf-8"))
PAPER_PAIR = ("custom", "free_form")  # the architectures that the paper compares
VARIED = {  # setup: those that change one thing in it (figure decomposition)
    "progressive": ("mixed", "replay", "reversed", "continuous", "long_last"),
    "fixed": ("progressive", "last_only", "recon_only"),
}
VALUES = {"largest": select.get_hole_l1, "all": select.average_widths}  # by a question's width


def _answer(results):
    """Draw the effects of the three questions and of every setup against fixed."""
    judged = stats.get_questions(stats.judge(results))
    parts = {}
    for row in judged.drop_duplicates("question").itertuples():
        wide = stats.pair_values(results, VALUES[row.width](results), row.first, row.second)
        effect = (wide[row.first] / wide[row.second] - 1).rename("effect")
        parts[row.question] = effect.reset_index().assign(setup=row.first)
    parts["setups against fixed"] = stats.compute_effects(results)
    effects = pd.concat([part.assign(panel=panel) for panel, part in parts.items()])
    return None if effects.empty else plots.draw_answer(effects, judged)


def _pairs(results):
    """Draw the setups of the three questions, a line per seed; from two seeds."""
    values = select.average_widths(results)
    several = stats.compute_effects(results).seed.nunique() > 1
    values = values[values.setup.isin(select.ASKED)]
    return plots.draw_pairs(values, select.ASKED) if several else None


def _decomposition(results, dataset):
    """Draw each control's effect by hole width, against the setup that it varies."""
    values = select.get_compared(results).query("region == 'hole' and metric == 'l1'")
    values = values[values.dataset == dataset]
    names = select.name_widths(results)
    labels = {name: str(width) for width, name in names.items()} | {"all": "all"}
    rows = []
    for architecture, of in values.groupby("architecture", sort=False):
        for base, setups in VARIED.items():
            for setup in [name for name in setups if {name, base} <= {*of.setup}]:
                wide = stats.pair_values(results, of, setup, base, "width")
                logs = np.log(wide[setup] / wide[base])
                at = logs.index.get_level_values("width")
                for width in [width for width in labels if width in at]:
                    d = logs[at == width].to_numpy()
                    few = len(d) < stats.MIN_SEEDS
                    ends = [np.nan] * 2 if few else stats.compute_interval(d)
                    found = [architecture, base, setup, labels[width]]
                    rows.append(found + np.expm1([d.mean(), *ends]).tolist())
    columns = ["architecture", "base", "setup", "width", "effect", "low", "high"]
    controls = any(map(select.is_control, values.setup))
    effects = pd.DataFrame(rows, columns=columns)
    return (
        plots.draw_by_width(effects, hypotheses.read_plan().margin) if controls and rows else None
    )


def _forgetting(results):
    """Draw the smallest holes' error by stage, of the setups of the questions and of replay."""
    values = select.get_by_stage(results).query("metric == 'l1' and stage.notna()")
    width = results.widths[0]
    shown = (values.mask_width == width) & values.setup.isin(select.SHOWN)
    return plots.draw_forgetting(values[shown], width) if shown.any() else None


def _games(results):
    """Draw in how many runs the adversarial game is active."""
    table = standing.judge_games(results)
    return plots.draw_games(table) if len(table) else None


def _schedules(results):
    """Draw hole width and loss weights over the iterations of the setups known here."""
    names = [name for name in frames.order(results.runs.setup) if name in SETUPS]
    return plots.draw_schedules({name: SETUPS[name].phase for name in names}, results.schedule)


def _stages(results, *cell):
    """Draw the errors after every stage."""
    values = select.get_cell(select.get_by_stage(results), *cell)
    return plots.draw_stages(values[values.stage.notna()])


def _heat(results, *cell):
    """Draw the errors after every stage as matrices, with the baselines."""
    return plots.draw_heat_maps(tables.make_stage_matrix(results).loc[cell])


def _curves(results, *cell):
    """Draw the logged quantities of training."""
    return plots.draw_curves(select.get_cell(results.history, *cell))


def _pair(results, dataset):
    """Draw the paper's comparison: custom and free_form on the same holes."""
    cells = select.list_cells(select.get_finished(results))
    both = all((dataset, architecture) in cells for architecture in PAPER_PAIR)
    return pictures.draw_comparison(results, dataset, *PAPER_PAIR) if both else None


KINDS = {  # kind: function, for what it is drawn
    "answer": (_answer, "study"),
    "pairs": (_pairs, "study"),
    "decomposition": (_decomposition, "dataset"),
    "games": (_games, "study"),
    "forgetting": (_forgetting, "study"),
    "schedules": (_schedules, "study"),
    "sizes": (pictures.draw_sizes, "cell"),
    "grid": (pictures.draw_comparison, "cell"),
    "stages": (_stages, "cell"),
    "heat": (_heat, "cell"),
    "curves": (_curves, "cell"),
    "pair": (_pair, "dataset"),
    "masks": (pictures.draw_stage_masks, "dataset"),
}
PUBLISHED = ("answer", "pairs", "decomposition", "games", "forgetting", "sizes")


def draw(results, *kinds):
    """Return {name: (figure, caption)} of some kinds, or of all."""
    places = {"study": [()], "dataset": [(name,) for name in results.about["data"]]}
    places["cell"] = select.list_cells(select.get_finished(results))
    found = {}
    for kind in kinds or KINDS:
        function, place = KINDS[kind]
        for where in places[place]:
            if (figure := function(results, *where)) is not None:
                if engine := figure.get_layout_engine():
                    engine.execute(figure)  # once, not whenever it is drawn
                    figure.set_layout_engine("none")
                caption = CAPTIONS[kind].format(cell=", ".join(where))
                found["_".join([kind, *where])] = (figure, caption)
    return found


def show(found, first=None):
    """Display figures in a notebook (only the `first` few, if given) and return them."""
    display(*[figure for figure, _ in found.values()][:first])
    return found
