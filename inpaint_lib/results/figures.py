"""Say which figures a report has: {name: (figure, caption)}. Captions: templates/captions.yaml.

Every function of GROUPS takes the Results of a study. What a study lacks has no figure."""

from pathlib import Path

import yaml
from IPython.display import display

from ..setups import SETUPS
from . import frames, pictures, plots, select, stats, tables

CAPTIONS = Path(__file__).parent / "templates" / "captions.yaml"
CAPTIONS = yaml.safe_load(CAPTIONS.read_text("utf-8"))
PAPER_PAIR = ("custom", "free_form")  # the architectures that the paper compares


def answer(results):
    """Draw the study's answer; nothing without a setup beside fixed."""
    effects = select.effects(results)
    if effects.empty:
        return {}
    verdicts = stats.primary(stats.judge(results))
    return {"answer": (plots.answer(effects, verdicts), CAPTIONS["answer"])}


def seeds(results):
    """Draw the registered comparison seed by seed, and how many seeds it needs; from two seeds."""
    verdicts = stats.primary(stats.judge(results))
    if verdicts.empty or verdicts.n_seeds.max() < 2:
        return {}
    l1 = select.hole_l1(results).query("setup in ('fixed', 'progressive')")
    return {
        "pairs": (plots.pairs(l1), CAPTIONS["pairs"]),
        "precision": (plots.precision(verdicts), CAPTIONS["precision"]),
    }


def schedules(results):
    """Draw hole width and loss weights over the iterations of the setups known here."""
    names = [name for name in frames.ordered(results.runs.setup) if name in SETUPS]
    phases = {name: SETUPS[name].phase for name in names}
    return {"schedules": (plots.schedules(phases, results.schedule), CAPTIONS["schedules"])}


def stages(results):
    """Draw the measures after every stage."""

    def draw(*cell):
        part = select.of_cell(results.values, *cell)
        own = part.mask_family == results.family(cell[1])
        return plots.per_stage(part[own & (part.region == "hole")])

    return _per_cell(results, "stages", draw)


def heat(results):
    """Draw the same as matrices, beside the baselines."""
    matrix = tables.stage_matrix(results)
    return _per_cell(results, "heat", lambda *cell: plots.heat_maps(matrix.loc[cell]))


def curves(results):
    """Draw the training dynamics."""

    def draw(*cell):
        return plots.training_curves(select.of_cell(results.history, *cell))

    return _per_cell(results, "curves", draw)


def side_by_side(results):
    """Show three recorded images under every setup."""

    def draw(dataset, architecture):
        return pictures.comparison(results, dataset, [architecture])

    return _per_cell(results, "grid", draw)


def evolution(results):
    """Show one image over the stages."""
    return _per_cell(results, "evolution", lambda *cell: pictures.evolution(results, *cell))


def _per_cell(results, kind, draw):
    """Return the figure of every data set and architecture for which `draw` returns one."""
    found = {}
    for dataset, architecture in select.cells(select.finished(results)):
        if (figure := draw(dataset, architecture)) is not None:
            caption = CAPTIONS[kind].format(cell=f"{dataset}, {architecture}")
            found[f"{kind}_{dataset}_{architecture}"] = (figure, caption)
    return found


def paper_pair(results):
    """Show the paper's comparison: custom against free_form on the same holes."""
    found, cells = {}, select.cells(select.finished(results))
    for dataset in results.about["data"]:
        if all((dataset, architecture) in cells for architecture in PAPER_PAIR):
            if (figure := pictures.comparison(results, dataset, PAPER_PAIR)) is not None:
                found[f"pair_{dataset}"] = (figure, CAPTIONS["pair"].format(cell=dataset))
    return found


def growing_masks(results):
    """Show the hole of every stage: Figure 2 of the paper."""
    found = {}
    for dataset, architecture in select.cells(select.finished(results)):
        keys = {w: f"{dataset}/mask/{results.family(architecture)}_{w}" for w in results.widths}
        if f"masks_{dataset}" not in found and set(keys.values()) <= results.fills.keys():
            masks = {width: results.fills[key][:4] for width, key in keys.items()}
            figure = pictures.growing_masks(results.fills[f"{dataset}/truth"][:4], masks)
            found[f"masks_{dataset}"] = (figure, CAPTIONS["masks"].format(cell=dataset))
    return found


PUBLISHED = (answer, seeds, schedules, side_by_side)  # what a published study keeps
GROUPS = (*PUBLISHED, stages, heat, curves, paper_pair, evolution, growing_masks)


def draw_all(results, groups=GROUPS):
    """Return every figure of a study, or those of some groups."""
    return {name: pair for group in groups for name, pair in group(results).items()}


def show(found, first=None):
    """Display figures in a notebook (only the `first` few, if given) and return them."""
    display(*[figure for figure, _ in found.values()][:first])
    return found
