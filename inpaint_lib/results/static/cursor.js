// The one cursor in time: which networks are shown, the time line, play and keys.

const cursorStep = (host) => host.selection.hover ?? host.selection.step;

// What is shown at the cursor. Between the ends of stages fills are those of recorded log points,
// which exist for the recorded images and the largest hole; all else is of the nearest end of a
// stage, 0 being before training.
function moment(host) {
  const { meta, selection } = host, step = cursorStep(host);
  if (hasPoints(host) && step > 0) {
    const shown = meta.points[nearest(meta.points, step)];
    return { kind: "point", step: shown, last: shown === meta.points[meta.points.length - 1], recorded: true };
  }
  const stage = stageOf(host, host.live ? 0 : 1), recorded = host.dataset().recorded.includes(selection.image);
  return { kind: "end", stage, step: Math.round(stage * meta.steps / meta.stages), recorded: recorded && stage > 0 };
}

// whether fills are recorded between the ends of stages, too
function hasPoints(host) {
  const { meta, selection } = host, largest = meta.widths[meta.widths.length - 1];
  return meta.points.length > 0 && selection.width === largest && host.dataset().recorded.includes(selection.image);
}

function describe(host, when) {
  const { meta } = host, every = meta.steps / meta.stages;
  if (when.kind === "point") {
    const stage = Math.min(meta.stages, Math.ceil(when.step / every));
    return `step ${when.step} of ${meta.steps}, in stage ${stage} (recorded log point)`;
  }
  return when.stage ? `end of stage ${when.stage} (step ${when.step})` : "before training";
}

// the steps at which the picture changes
function moments(host) {
  const { meta } = host, ends = meta.widths.map((_, k) => Math.round((k + 1) * meta.steps / meta.stages));
  return [...(host.live ? [0] : []), ...(hasPoints(host) ? meta.points : ends)];
}

function timeLine(place, host) {
  const { meta } = host;
  const button = make("button", { class: "ix-play", type: "button", onclick: () => play() });
  const slider = make("input", {
    type: "range", min: "0", max: String(meta.steps), step: "1", class: "ix-time", "aria-label": "training step",
    oninput: () => host.select({ step: Number(slider.value), hover: null, playing: false }),
  });
  const stages = make("div", { class: "ix-stages" }, ...meta.widths.map(
    (width, k) => make("span", { title: `stage ${k + 1}: the hole that progressive grows to` },
      make("b", { text: `stage ${k + 1} · ` }), `${width} px`)));
  const words = make("output", { class: "ix-when" });
  place.append(button, make("div", { class: "ix-track" }, slider, stages), words);
  let timer = null;

  function play() {
    const points = moments(host);
    if (host.selection.playing) return stop();
    if (host.selection.step >= points[points.length - 1]) host.select({ step: points[0], hover: null });
    host.select({ playing: true, hover: null });
    timer = setInterval(() => {
      const next = points.find((step) => step > host.selection.step);
      if (next === undefined || !place.isConnected) stop();
      else host.select({ step: next });
    }, Math.max(80, 6000 / points.length));
  }
  function stop() {
    clearInterval(timer);
    host.select({ playing: false });
  }
  function redraw() {
    if (!host.selection.playing) clearInterval(timer);
    button.textContent = host.selection.playing ? "❚❚ pause" : "▶ play";
    slider.value = cursorStep(host);
    words.textContent = describe(host, moment(host));
  }
  host.on("selection", redraw);
  redraw();
  return {
    play,
    move(direction) {
      const points = moments(host), { step } = host.selection;
      const next = direction > 0 ? points.find((p) => p > step) : points.filter((p) => p < step).pop();
      if (next !== undefined) host.select({ step: next, hover: null, playing: false });
    },
  };
}

// space plays, left and right move, Escape leaves
function keys(root, host, line) {
  root.addEventListener("keydown", (event) => {
    const { tagName, type } = event.target, moved = type === "range" || type === "checkbox";
    const typed = ["SELECT", "TEXTAREA"].includes(tagName) || (tagName === "INPUT" && !moved);
    const arrows = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") {
      host.select({ playing: false, hover: null });
      document.activeElement.blur();
    } else if (event.key === " " && !typed && tagName !== "BUTTON" && type !== "checkbox") line.play();
    else if (arrows && !typed && (type !== "range" || event.target.classList.contains("ix-time"))) line.move(arrows);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
