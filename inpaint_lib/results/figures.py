"""The figures of a report: which there are, and the caption of each. Functions return {name: (figure, caption)}.

FROM_TABLES are those that rest on written tables and logs alone; the others need the networks and the images.
"""

import pandas as pd
from IPython.display import display

from .. import setups
from ..data import packs
from . import collect, pictures, plots, tables
from . import trend as budgets


def overview(study):
    """The answer and what it rests on, from the study's written tables."""
    folder = study.report / "tables"
    results, verdicts = pd.read_csv(folder / "results.csv", dtype=collect.TYPES), pd.read_csv(folder / "hypotheses.csv")
    return answer(study, results, verdicts) | seeds(study, results, verdicts) | trend(study) | schedules(study)


def shown(found, first=None):
    """Display figures in a notebook (only the `first` few, if that is given) -> found."""
    display(*[figure for figure, _ in found.values()][:first])
    return found


def cells(study):
    """(dataset, architecture) pairs of which a run finished."""
    return list(dict.fromkeys((r.dataset, r.architecture) for r in collect.finished(study)))


def answer(study, results, verdicts):
    """The study's answer at a glance; none without a setup beside fixed. `verdicts` as of tables.hypotheses."""
    effects = collect.effects(study, results)
    if not len(effects):
        return {}
    return {"answer": (
        plots.answer(effects, verdicts[verdicts.hypothesis.str.startswith("primary")]),
        "Hole L1 of each setup against that of fixed, full-size holes, after the last stage: marks are means over seeds, ticks "
        "seeds, progressive is the large mark. Left of the line a setup fills better than fixed; inside the grey band the "
        "difference is below the registered margin. The bar, from three seeds on, is the verdict's interval (95 %, widened by "
        "Holm's method). Controls are none of the paper's setups.")}  # fmt: skip


def seeds(study, results, verdicts):
    """The registered comparison seed by seed, and how many seeds it takes; none with one seed."""
    primary = verdicts[verdicts.hypothesis.str.startswith("primary")]
    if not len(primary) or primary.n_seeds.max() < 2:
        return {}
    l1 = collect.final(study, results).query("region == 'hole' and metric == 'l1' and setup in ('fixed', 'progressive')")
    return {
        "pairs": (
            plots.pairs(l1),
            "The registered comparison, a line per training seed: hole L1 of fixed and of progressive. Orange where "
            "progressive fills better."),
        "precision": (
            plots.precision(primary),
            "How many seeds it takes: half of the primaries' 95 % interval against the number of seeds, given the deviation "
            "seen here. Dots: the seeds there are; dashed: the margin."),
    }  # fmt: skip


def trend(study):
    """The effect against the budget; none unless published studies differ in it."""
    if not (kept := budgets.read(study)):
        return {}
    return {"trend": (
        plots.trend(kept[0]),
        "The effect against the budget: hole L1 of progressive (and, grey, of the control mixed) against that of fixed, "
        "full-size holes, after the last stage. Marks are means over seeds, thin lines seeds, the grey band the margin. Lines "
        "that fall say that growing the hole gains with a larger budget.")}  # fmt: skip


def schedules(study):
    """Hole width and loss weights over the iterations."""
    config = study.config
    schedule = setups.Schedule(config.steps, config.mask_widths, config.seeds[0])
    return {"schedules": (
        plots.schedules({s: setups.SETUPS[s] for s in config.setups}, schedule),
        "Width of the training hole and loss weights over the iterations. All of the paper's setups end with the same hole and "
        "weights; the controls are ours.")}  # fmt: skip


def stages(study):
    """Measures after every stage."""
    table, found = collect.stages(study), {}
    for dataset, architecture in cells(study):
        found[f"stages_{dataset}_{architecture}"] = (
            plots.per_stage(table[(table.dataset == dataset) & (table.architecture == architecture)]),
            f"{dataset}, {architecture}: hole L1, L2 and PSNR on the frozen test masks after every stage, one column per hole "
            "width; means over seeds. See whether the curves part, and whether they meet again at the last stage in the last "
            "column.")  # fmt: skip
    return found


def heat(study, results=None, fillings=None):
    """The same as matrices. `results`, `fillings`: as of collect.results and collect.plain, if they are at hand."""
    results = collect.results(study) if results is None else results
    matrix, found = tables.stage_matrix(study, results, collect.plain(study) if fillings is None else fillings), {}
    for dataset, architecture in cells(study):
        found[f"heat_{dataset}_{architecture}"] = (
            plots.heat_maps(matrix.loc[(dataset, architecture)]),
            f"{dataset}, {architecture}: hole L1 after every stage (rows) for every hole width (columns), beside fillings that "
            "need no training. Darker is better; a setup has learnt to fill where it is darker than the last panel.",
        )
    return found


def curves(study):
    """Training dynamics."""
    found = {}
    for dataset, architecture in cells(study):
        histories = {(r.setup, r.seed): pd.read_csv(r.folder / "history.csv")
                     for r in collect.finished(study) if (r.dataset, r.architecture) == (dataset, architecture)}  # fmt: skip
        found[f"curves_{dataset}_{architecture}"] = (
            plots.training_curves(histories),
            f"{dataset}, {architecture}: losses (unweighted), discriminator scores and gradient norms (of the weighted losses) "
            "during training, means over seeds, stages shaded. Compare adversarial curves in the last stage alone: "
            "there all of the paper's setups train on the same holes.")  # fmt: skip
    return found


FROM_TABLES = (overview, stages, heat, curves)


def side_by_side(study):
    """Three test images per cell under every setup."""
    return {f"grid_{dataset}_{architecture}": (
        pictures.comparison(study, dataset, [architecture]),
        f"{dataset}, {architecture}: input, each setup's output in the full-size hole (outlined), truth. Rows: the test images "
        "filled best, median and worst by hole L1, averaged over setups and seeds; networks of the first seed. See where "
        "colours or edges break at the outline.") for dataset, architecture in cells(study)}  # fmt: skip


def paper_pair(study):
    """The paper's comparison: custom against free_form on the same holes."""
    pair = ["custom", "free_form"]
    return {f"pair_{dataset}": (
        pictures.comparison(study, dataset, pair, family="free_form"),
        f"{dataset}: custom and free_form under every setup on the same free-form holes, custom having been trained on "
        f"{study.config.models['custom'].mask_family} holes. Rows: the images that free_form fills best, median and worst.")
        for dataset in study.config.datasets if {(dataset, a) for a in pair} <= {*cells(study)}}  # fmt: skip


def evolution(study):
    """One image over the stages."""
    found = {}
    for dataset, architecture in cells(study):
        median = [collect.ranked(study, dataset, architecture)["median"]]
        found[f"evolution_{dataset}_{architecture}"] = (
            pictures.evolution(pictures.first_seed(study, dataset, architecture), median),
            f"{dataset}, {architecture}: the median test image with the full-size hole, filled by the network as it was after "
            "every stage, a row per setup. See when a setup begins to fill such a hole.")  # fmt: skip
    return found


def growing_masks(study):
    """Figure 2 of the paper."""
    config, found = study.config, {}
    for dataset in config.datasets:
        pack, family = packs.prepare(study, dataset), config.models[config.architectures[0]].mask_family
        found[f"masks_{dataset}"] = (
            pictures.growing_masks(pack.test[:4], {w: pack.test_masks(family, w)[:4] for w in config.mask_widths}),
            f"{dataset}: the hole of every stage of the progressive setup (the paper's Figure 2).")  # fmt: skip
    return found
