"""One training loop for every architecture, setup and data set.

`fit(run)` trains until the budget is spent, whatever was done before: a finished run is returned as it is, an interrupted one
goes on from its checkpoint and ends with the same bytes as if it had never stopped (CPU, float32). It writes, in the run's
folder: config.json, history.csv, probe.csv, stages/<n>.safetensors, stages.csv, per_image.csv.gz, checkpoint.pt,
model/ (card.py) and, last of all, result.json: a run has come to its end if and only if result.json names the run's settings.

A run whose losses or weights are no longer finite has come to its end too: result.json then says "diverged", where and why.
That is an outcome like another: it is counted, and never trained again from another seed or with other settings.
"""

import io
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from .. import losses, masks, metrics, models, rng, setups
from ..data import feed, packs
from ..study import devices, files, processes, provenance
from . import artifacts, jobs, probe
from .step import Step, adam, choose_levers


class Diverged(RuntimeError):
    """Training ended because a loss or a weight is NaN or infinite."""


HALF_LIVES = 10  # of the moving average of G's weights, in a stage (protocol 2)


@dataclass
class State:
    """Everything training goes on from."""

    PLAIN = ("step", "seconds", "step_seconds", "sittings", "history", "probes", "evaluations")
    G: torch.nn.Module
    D: torch.nn.Module
    opt_g: torch.optim.Optimizer
    opt_d: torch.optim.Optimizer
    average: AveragedModel  # of G's weights, exponential: what is evaluated, exported and fills
    step: int = 0
    seconds: float = 0.0  # over all sittings, evaluation after every stage included
    step_seconds: float = 0.0  # of them in training steps
    sittings: list = field(default_factory=list)  # where and with what it was trained
    history: list = field(default_factory=list)  # one dict per log point
    probes: list = field(default_factory=list)  # (step, G's adversarial loss) on the fixed batch, last stage
    evaluations: list = field(default_factory=list)  # per finished stage: (widths, images, regions, metrics)
    tables: list = field(default_factory=list)  # of them, what artifacts.write_tables has made of each

    def state_dict(self):
        networks = {name: getattr(self, name).state_dict() for name in ("G", "D", "opt_g", "opt_d", "average")}
        return networks | {name: getattr(self, name) for name in self.PLAIN} | {"rng": torch.get_rng_state()}

    def load_state_dict(self, saved):
        for name in ("G", "D", "average"):
            getattr(self, name).load_state_dict(saved[name])
        for name in ("opt_g", "opt_d"):  # how it is computed is this device's affair, not the saved one's
            optimizer = getattr(self, name)
            kept = [{k: group[k] for k in ("fused", "foreach", "capturable")} for group in optimizer.param_groups]
            groups = [a | b for a, b in zip(saved[name]["param_groups"], kept, strict=True)]
            optimizer.load_state_dict(saved[name] | {"param_groups": groups})
        for name in self.PLAIN:
            setattr(self, name, saved[name])
        self.tables = []
        torch.set_rng_state(saved["rng"])


def fit(run, watch=None):
    """Train one run to its end and return its result (the content of result.json); `finished` asks whether it diverged.

    `watch(run, state, bar)`, if given, is called at every log point instead of a progress bar on stderr.
    Raises devices.OutOfMemory, and provenance.SettingsChanged if work made with other settings lies there; config errors are
    raised before anything is written. Ctrl-C, or a notebook's stop button, saves a checkpoint at the next log point and raises
    KeyboardInterrupt; a second one raises at once.
    """
    pack = packs.prepare(run.study, run.dataset)
    with files.locked(run.folder), processes.interrupts_kept() as interrupted:
        job = jobs.resolve(run, pack)
        job.refuse_other()
        with devices.enough_memory(run.config, "training"):
            return artifacts.keep(job) if job.result else _fit(job, watch, interrupted)


def finished(result):
    """A result whose run did not diverge. Raises Diverged for one that did: a notebook ends there, having nothing to show."""
    if result["outcome"] == "diverged":
        raise Diverged(result["why"])
    return result


def _fit(job, watch, interrupted):
    run, config = job.run, job.run.config
    torch.set_num_threads(config.threads)
    device = devices.choose_device(config.device)
    levers = choose_levers(config, device, run.architecture)
    state = start(run, device, levers)
    step = Step(run, state, device, levers)
    artifacts.resume(state, job)
    try:
        _train(job, state, step, watch, interrupted)
    except Diverged as error:
        print(f"{run.name} has diverged: {error}", flush=True)
        return artifacts.finish(job, state, f"{error}")
    return artifacts.finish(job, state)


def _train(job, state, step, watch, interrupted):
    run, pack, config, batch = job.run, job.pack, job.run.config, job.run.config.batch_size
    device, levers = step.device, step.levers
    schedule = setups.Schedule(config.steps, config.mask_widths, run.seed)

    loading = feed.choose_loading(config.loading, pack.train.nbytes, device)
    batches = feed.batches(feed.mapped(pack), run.seed, range(state.step, config.steps), batch, device, loading)

    def probed():
        return dict(zip(("probe_g", "probe_d"), probe.adversarial(state.G, state.D, objective, *fixed), strict=True))

    objective, fixed = losses.OBJECTIVES[run.architecture], probe.fixed_batch(run, pack, device)
    probe_every = max(1, schedule.steps_per_stage // probe.BATCHES)
    bar = tqdm(
        total=config.total_images,
        initial=state.step * batch,
        unit="image",
        desc=run.name,
        file=io.StringIO() if watch else None,
        mininterval=1.0,
    )
    started = last_save = time.monotonic()
    clock = state.seconds - started
    if state.step < config.steps:
        state.sittings.append(_sitting(state, device, levers, loading))

    for images in batches:
        # --- next batch, holes, one update of D and of G
        phase = setups.SETUPS[run.setup](schedule, state.step)
        if phase.trains:
            step(images, hole_variates(run, state.step), phase)
            state.average.update_parameters(state.G)
        state.step += 1
        boundary = state.step % schedule.steps_per_stage == 0
        if phase.stage == len(config.mask_widths) - 1 and state.step % probe_every == 0:
            state.probes.append((state.step, probe.adversarial(state.G, state.D, objective, *fixed)[0]))

        # --- log point: here alone, and where it probes, the host waits for the device
        if state.step % config.log_every and not boundary:
            continue
        now, since_log = time.monotonic(), step.count
        state.seconds = clock + now
        if since_log:
            state.step_seconds += now - started
            row = _read(step, state, phase) | probed() | {"images_per_second": since_log * batch / (now - started)}
            state.history.append(row)
        bar.update(state.step * batch - bar.n)

        # --- end of a stage: keep the weights, measure on the frozen masks of every width
        if boundary:
            _check_weights(state)
            artifacts.save_stage(job, state, phase.stage)
            state.evaluations.append(_evaluate(job, state, device))
            if state.step < config.steps:  # the last stage's are written by finish
                artifacts.write_tables(job, state)
        stopping = interrupted.is_set()  # here, because from a log point a run goes on to the same bytes
        if boundary or stopping or now - last_save > config.checkpoint_seconds:
            _check_weights(state)
            state.seconds = clock + time.monotonic()
            state.sittings[-1]["peak_memory_bytes"] = devices.peak_memory(device)
            artifacts.save_checkpoint(run.folder, {"settings": job.settings, "state": state.state_dict()})
            last_save = time.monotonic()
        if watch and since_log:
            watch(run, state, bar)
        if stopping:
            bar.close()
            raise KeyboardInterrupt(f"{run.name} is saved at step {state.step} of {config.steps}; run it again to go on")
        started = time.monotonic()

    bar.close()


def _read(step, state, phase):
    """A log point's row of history.csv: means over the steps since the last one, and deviations. Raises Diverged."""
    since, means = step.count, step.read()
    for name, value in means.items():
        if not np.isfinite(value):
            raise Diverged(f"{name} became {value} between steps {state.step - since} and {state.step}")
    for name in ("adversarial_g", "adversarial_d"):
        means[f"{name}_std"] = max(means.pop(f"{name}_square") - means[name] ** 2, 0.0) ** 0.5
    context = {
        "step": state.step,
        "stage": phase.stage + 1,
        "mask_width": phase.mask_width,
        "reconstruction_weight": phase.reconstruction,
        "adversarial_weight": phase.adversarial,
    }
    return context | means


def _sitting(state, device, levers, loading):
    """What the training goes on with from here: a run that was interrupted may have been trained on several machines."""
    where = {"from_step": state.step, "device": devices.device_name(device), "loading": loading} | levers.describe()
    return where | {"provenance": provenance.current()}


def hole_variates(run, step):
    """What places and shapes the holes of one step, (B, n), keyed by the run's seed and the step: runs that differ in their
    setup alone see holes that differ in size alone."""
    return masks.variates(run.model.mask_family, run.config.batch_size, _mask_rng(run, step))


def holes(run, step, mask_width):
    """The holes of one step at a width, (B,1,H,W) float32."""
    config = run.config
    return masks.generate(run.model.mask_family, config.batch_size, mask_width, config.image_size, _mask_rng(run, step))


def _mask_rng(run, step):
    return rng.keyed(run.seed, "masks", step)


def start(run, device, levers):
    """Networks and optimisers at step 0; the initial weights depend on the seed alone."""
    config, model = run.config, run.model
    G, D = (n.to(device) for n in models.create(run.architecture, config.image_size, run.seed, **model.widths))
    average = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(0.5 ** (HALF_LIVES * len(config.mask_widths) / config.steps)))
    return State(G, D, adam(G, model.lr_g, model.betas, levers), adam(D, model.lr_d, model.betas, levers), average)


def _check_weights(state):
    for label, network in (("generator", state.G), ("discriminator", state.D)):
        for name, p in network.state_dict().items():  # batch norm's statistics too
            if not torch.isfinite(p).all():
                raise Diverged(f"weight {name} of the {label} is not finite at step {state.step}")


def _evaluate(job, state, device):
    """Metrics of the averaged generator with every width's frozen masks: (widths, images, regions, metrics)."""
    run, config, pack = job.run, job.run.config, job.pack
    again = config.fid_stages == "all" or state.step == config.steps  # those of other stages are not evaluated once more
    with devices.enough_memory(config, "evaluation"):
        family, G = run.model.mask_family, state.average.module
        each = (probe.at_work(run, pack, G, family, width, device, again) for width in config.mask_widths)
        return torch.stack([metrics.evaluate(batches) for batches in each])
