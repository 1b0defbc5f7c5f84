"""One training loop for every architecture, setup and data set.

`fit(run)` trains until the budget is spent. A finished run is not trained again. An interrupted run
continues from its checkpoint and ends with the same bytes as an uninterrupted one (CPU, float32). A
run ends as "diverged" when a loss or a weight is not finite; this outcome counts, too, and such a
run is not trained again.
"""

import io
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from .. import masks, rng
from ..data import feed, packs
from ..study import devices, files, processes, provenance
from . import artifacts, identity, probe, recording, weights
from .step import Step, choose_options

HALF_LIVES = 10  # of the moving average of G's weights, per stage (protocol 2)


class Diverged(RuntimeError):
    """Training ended because a loss or a weight became NaN or infinite."""


@dataclass
class State:
    """The state of training that a checkpoint saves."""

    G: torch.nn.Module
    D: torch.nn.Module
    opt_g: torch.optim.Optimizer
    opt_d: torch.optim.Optimizer
    average: AveragedModel  # of G's weights, exponential; this one is evaluated and exported
    step: int = 0
    seconds: float = 0.0  # over all sittings, `after_stage` included
    step_seconds: float = 0.0  # the part of seconds spent in training steps
    sittings: list = field(default_factory=list)  # machine and options of each start
    history: list = field(default_factory=list)  # one dict per log point
    probes: list = field(default_factory=list)  # (step, G's loss on the fixed batch), last stage
    recording: dict = field(default_factory=dict)  # fills of test images, see recording.py

    def state_dict(self):
        found = {"rng": torch.get_rng_state()}
        for name, part in vars(self).items():
            found[name] = part.state_dict() if hasattr(part, "state_dict") else part
        return found

    def load_state_dict(self, saved):
        torch.set_rng_state(saved["rng"])
        for name, part in vars(self).items():
            value = saved[name]
            if isinstance(part, torch.optim.Optimizer):  # these options depend on the device
                own = {key: part.defaults[key] for key in ("fused", "foreach", "capturable")}
                value = value | {"param_groups": [g | own for g in value["param_groups"]]}
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            else:
                setattr(self, name, value)


def create_state(run, device, options):
    """Return the State at step 0; initial weights are drawn by the seed, or given."""
    model = run.model
    G, D = (network.to(device) for network in weights.create_initial(run))
    decay = 0.5 ** (HALF_LIVES * run.n_stages / run.config.curriculum.steps)
    average = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(decay))
    computed = {"fused": options.fused_adam or None, "capturable": options.cuda_graph}
    opt_g = torch.optim.Adam(G.parameters(), model.lr_g, model.betas, **computed)
    opt_d = torch.optim.Adam(D.parameters(), model.lr_d, model.betas, **computed)
    return State(G, D, opt_g, opt_d, average)


def fit(run, watch=None, after_stage=None):
    """Train one run to its end and return the content of its result.json.

    `watch(run, state)` is called at every log point. The progress bar goes to stderr, or to `watch`
    if that can be written to. `after_stage(run, stage)` is called when the weights of a stage
    (1 ..) are on disk; for the last stage when the run has ended. Raises devices.OutOfMemory, and
    provenance.SettingsChanged if the folder holds work of other settings. Ctrl-C, or a notebook's
    stop button, saves a checkpoint at the next log point and raises KeyboardInterrupt; a second one
    raises at once.
    """
    pack = packs.prepare(run.study, run.dataset)
    device = devices.choose_device(run.config.machine.device)
    wanted, why = identity.identify(run, pack, device), ""
    with files.lock(run.folder), processes.defer_interrupts() as interrupted:
        identity.refuse_other(run, wanted)
        if found := identity.read_result(run):
            return found
        with devices.explain_out_of_memory(run.config):
            torch.set_num_threads(run.config.machine.threads)
            options = choose_options(run.config, device, run.architecture)
            state = create_state(run, device, options)
            step = Step(run, state, device, options)
            artifacts.resume(state, run, wanted)
            try:
                _train(run, pack, state, step, wanted, watch, after_stage, interrupted)
            except Diverged as error:
                why = str(error)
                print(f"{run.name} has diverged: {why}. Try a lower lr_g or lr_d", flush=True)
            result = artifacts.finish(run, pack, state, wanted, why)
            if after_stage and not why:
                after_stage(run, run.n_stages)
    return result


def require_finished(result):
    """Return the result of a run that finished; raise Diverged for one that diverged."""
    if result["outcome"] == "diverged":
        raise Diverged(result["why"])
    return result


def _train(run, pack, state, step, wanted, watch, after_stage, interrupted):
    curriculum, machine, device = run.config.curriculum, run.config.machine, step.device
    batch, steps, per_stage = curriculum.batch_size, curriculum.steps, curriculum.steps_per_stage
    loading = feed.choose_loading(machine.loading, pack.train.nbytes, device)
    left = range(state.step, steps)
    batches = feed.load_batches(feed.map_images(pack), run.seed, left, batch, device, loading)
    objective, fixed = step.objective, probe.load_fixed_batch(run, pack, device)
    recorder = recording.Recorder(run, pack, state, device)
    unread = []  # of the fixed batch's losses: scalars on the device
    widths, gradients = [], {}  # since the last log point: of the holes; of G's losses
    bar = tqdm(
        total=curriculum.total_images,
        initial=state.step * batch,
        unit="image",
        desc=run.name,
        file=watch if hasattr(watch, "write") else watch and io.StringIO(),
        mininterval=1.0,
        miniters=1,
    )
    started = last_save = time.monotonic()
    clock = state.seconds - started
    if left:
        state.sittings.append(_sitting(state, step, loading))

    for images in batches:
        # --- holes, G's forward pass, update of D, update of G: Step._compute
        phase, at = run.phase(state.step), state.step + 1
        boundary = at % per_stage == 0
        logs = boundary or at % run.config.training.log_every == 0
        if phase.trains:
            given = images, draw_hole_variates(run, state.step), phase
            if logs:  # before the update, after which the batch is an easy one
                gradients = probe.measure_gradients(step, *given)
            step(*given)
            widths.append(phase.mask_width)
            state.average.update_parameters(state.G)
        state.step += 1
        bar.update(batch)
        if phase.stage == run.n_stages - 1:
            unread.append(probe.measure_adversarial_g(state.G, state.D, objective, *fixed))

        # --- log; only here the host waits for the device
        if not logs:
            continue
        now, trained = time.monotonic(), step.count
        state.seconds = clock + now
        if trained:
            state.step_seconds += now - started
            row = _read(step, state, phase, widths) | gradients
            probed = probe.measure_adversarial(state.G, state.D, objective, *fixed)
            row["probe_g"], row["probe_d"] = map(float, probed)
            row["images_per_second"] = trained * batch / (now - started)
            state.history.append(row)
            widths, gradients = [], {}
        if unread:
            read = torch.stack(unread).tolist()
            state.probes += enumerate(read, state.step - len(read) + 1)
            unread.clear()
        recorder.at_log_point(phase.stage + 1)

        # --- end of a stage; checkpoints only at log points, or a resumed run would differ
        stopping = interrupted.is_set()
        due = boundary or stopping or now - last_save > machine.checkpoint_seconds
        if due:
            _check_weights(state)
        if boundary:
            recorder.at_end_of_stage()
            artifacts.save_stage(run, pack, state, phase.stage + 1)
            artifacts.write_records(run, state)
        if due:
            last_save = time.monotonic()
            state.seconds = clock + last_save
            state.sittings[-1]["peak_memory_bytes"] = devices.measure_peak_memory(device)
            saved = {"identity": wanted, "state": state.state_dict()}
            artifacts.save_checkpoint(run.folder, saved)
        measured = boundary and phase.stage + 1 in run.evaluated_stages
        if measured and after_stage and not stopping and state.step < steps:
            after_stage(run, phase.stage + 1)
        if watch and trained:
            watch(run, state)
        if stopping:
            bar.close()
            where = f"{run.name} is saved at step {state.step} of {steps}"
            raise KeyboardInterrupt(f"{where}: run it again to continue")
        started = time.monotonic()

    bar.close()


def draw_hole_variates(run, step):
    """Return the unit variates of the holes of one step, (B, n), keyed by the run's seed and step.

    Runs that differ only in their setup therefore have holes that differ only in size.
    """
    draw = rng.open_stream(run.seed, "masks", step)
    return masks.draw_variates(run.model.mask_family, run.config.curriculum.batch_size, draw)


def draw_holes(run, step, mask_width):
    """Return the holes of one step at a width in pixels: (B,1,H,W) float32."""
    family, size = run.model.mask_family, run.config.data.image_size
    draw = masks.get_family(family, packs.load_bank(run, family))
    return draw(draw_hole_variates(run, step), masks.find_extent(family, mask_width, size), size)


def _read(step, state, phase, widths):
    """Return a row of history.csv: means and deviations over the steps since the last row."""
    since, means = step.count, step.read()
    for name, value in means.items():
        if not np.isfinite(value):
            between = f"between steps {state.step - since} and {state.step}"
            raise Diverged(f"{name} became {value} {between}")
    for name in ("adversarial_g", "adversarial_d"):
        means[f"{name}_std"] = max(means.pop(f"{name}_square") - means[name] ** 2, 0.0) ** 0.5
    context = {
        "step": state.step,
        "stage": phase.stage + 1,
        "mask_width": sum(widths) / len(widths),
        "reconstruction_weight": phase.reconstruction,
        "adversarial_weight": phase.adversarial,
    }
    return context | means


def _sitting(state, step, loading):
    """Return the machine and the options of this start; a run may use several machines."""
    return {
        "from_step": state.step,
        "device": devices.get_device_name(step.device),
        "device_kind": step.device.type,
        "loading": loading,
        **vars(step.options),
        "provenance": provenance.describe_environment(),
    }


def _check_weights(state):
    for label, network in (("generator", state.G), ("discriminator", state.D)):
        for name, value in network.state_dict().items():  # batch norm's statistics too
            if not torch.isfinite(value).all():
                raise Diverged(f"weight {name} of the {label} is not finite at step {state.step}")
