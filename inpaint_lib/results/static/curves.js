// Logged quantities of all chosen runs over the steps: a line a seed, bands from three seeds on.

const DASHES = [[], [6, 3], [2, 2], [8, 2, 2, 2]]; // of architectures
const FIRST_TERMS = ["d_accuracy", "adversarial_d", "adversarial_g", "adversarial_share"];
const EDGE = { left: 44, right: 8, top: 6, bottom: 18 };

// {step, stage, term: Float32Array} of every chosen run
async function histories(host, runs) {
  const found = await host.gather("histories", runs);
  return found.map(({ columns, values }) => Object.fromEntries(columns.map((name, k) => [name, part(values, k).data])));
}

// runs that differ in their seed alone: [{key, name, colour, dash, members: indices}]
function groupsOf(host, runs) {
  const architectures = [...new Set(runs.map((run) => run.architecture))], groups = new Map();
  runs.forEach((run, k) => {
    const key = `${run.architecture} ${run.setup}`;
    if (!groups.has(key)) {
      const name = architectures.length > 1 ? `${run.architecture} · ${run.setup}` : run.setup;
      groups.set(key, { key, name, colour: colourOf(host, run), members: [],
        architecture: run.architecture, dash: DASHES[architectures.indexOf(run.architecture) % DASHES.length] });
    }
    groups.get(key).members.push(k);
  });
  return [...groups.values()];
}

// a moving average whose memory grows with the weight, as pandas' ewm
function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0, total = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = sum * weight + value;
    total = total * weight + 1;
    return sum / total;
  });
}

// the mean over a group's seeds, and half of its interval from three seeds on
function overSeeds(lines, bands) {
  const n = lines.length, length = Math.min(...lines.map((line) => line.length));
  const middle = new Float32Array(length), half = n >= 3 ? new Float32Array(length) : null;
  for (let k = 0; k < length; k++) {
    const values = lines.map((line) => line[k]);
    middle[k] = mean(values);
    if (half) half[k] = (bands[n] || 0) * Math.sqrt(values.reduce((s, v) => s + (v - middle[k]) ** 2, 0) / (n - 1));
  }
  return { middle, half };
}

function ticks(low, high, n) {
  const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw), found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

function curves(place, host) {
  const { meta } = host, view = { weight: 0, log: false, range: [0, meta.steps] };
  const smoothing = make("input", { type: "range", min: "0", max: "0.95", step: "0.05", value: "0", "aria-label": "smoothing",
    oninput: () => { view.weight = Number(smoothing.value); redraw(); } });
  const log = make("input", { type: "checkbox", onchange: () => { view.log = log.checked; redraw(); } });
  const reset = make("button", { type: "button", text: "whole range", disabled: true, onclick: () => zoom([0, meta.steps]) });
  const legend = make("div", { class: "ix-legend" });
  place.append(make("div", { class: "ix-row" },
    make("label", { class: "ix-field" }, make("span", { text: "smoothing" }), smoothing),
    make("label", { class: "ix-field" }, log, make("span", { text: "log scale" })), reset), legend);
  const grid = make("div", { class: "ix-plots" });
  place.append(grid, make("p", { class: "ix-note", text: "Hover to look, click to keep the step, drag to zoom in." }));
  const plots = FIRST_TERMS.map((term) => plotOf(host, term, view, zoom));
  grid.append(...plots.map((plot) => plot.around));

  function zoom(range) {
    view.range = range;
    reset.disabled = range[0] === 0 && range[1] === meta.steps;
    redraw();
  }
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host), found = await histories(host, runs), groups = groupsOf(host, runs);
    legend.replaceChildren(...groups.map((group) => make("span", { class: "ix-name" },
      dashOf(group), `${group.name}${group.members.length > 1 ? ` (${group.members.length} seeds)` : ""}`)));
    for (const plot of plots) plot.draw(found, groups);
  });
  host.on("selection", (_, changed) => {
    if (changed.some((key) => ["dataset", "architectures", "setups", "seeds"].includes(key))) redraw();
    else if (changed.includes("step") || changed.includes("hover")) plots.forEach((plot) => plot.cursor());
  });
  new ResizeObserver(() => redraw()).observe(grid);
  redraw();
}

function dashOf(group) {
  const look = { stroke: group.colour, "stroke-width": 2.5, "stroke-dasharray": group.dash.join(" ") };
  return vector("svg", { width: 22, height: 8 }, vector("line", { x1: 0, x2: 20, y1: 4, y2: 4, ...look }));
}

// one plot: a picture of the curves, and above it a canvas for cursor and zoom
function plotOf(host, term, view, zoom) {
  const { meta } = host, base = make("canvas", { class: "ix-base" }), above = make("canvas", { class: "ix-above" });
  const tip = make("div", { class: "ix-tip", hidden: true });
  const { select } = choice("", [[term, meta.terms[term] || term]], term, (value) => { term = value; draw(data, groups); });
  select.setAttribute("aria-label", "quantity");
  const around = make("div", { class: "ix-plot" }, select, make("div", { class: "ix-stack" }, base, above, tip));
  let data = [], groups = [], scale = null, lines = [], drag = null;

  function draw(found, of) {
    data = found;
    groups = of;
    const logged = [...new Set(found.flatMap(Object.keys))].filter((key) => !["step", "stage"].includes(key));
    const known = Object.keys(meta.terms).filter((key) => logged.includes(key));
    const options = [...known, ...logged.filter((key) => !known.includes(key))];
    if (!options.includes(term)) options.unshift(term);
    if (options.join() !== [...select.options].map((o) => o.value).join()) refill(select, options.map((key) => [key, meta.terms[key] || key]), term);
    select.title = meta.columns[term] || select.selectedOptions[0].textContent;
    lines = groups.map((group) => {
      const members = group.members.filter((k) => found[k][term] && found[k][term].some(Number.isFinite));
      const each = members.map((k) => smoothed(found[k][term], view.weight));
      return { group, each, steps: members.length ? found[members[0]].step : [], all: members.map((k) => found[k].step),
        ...(each.length ? overSeeds(each, meta.bands) : { middle: [], half: null }) };
    }).filter((line) => line.each.length);
    around.classList.toggle("ix-empty", !lines.length);
    scale = scaleOf(lines, view, base);
    sharp(base, (context, width, height) => paint(context, width, height));
    cursor();
  }

  function paint(context, width, height) {
    const { x, y } = scale, soft = ink(base, "--ix-soft"), grid = ink(base, "--ix-line");
    const right = width - EDGE.right, bottom = height - EDGE.bottom, every = meta.steps / meta.stages;
    context.save();
    context.beginPath();
    context.rect(EDGE.left, 0, right - EDGE.left, bottom);
    context.clip();
    context.fillStyle = ink(base, "--ix-shade");
    meta.widths.forEach((_, k) => k % 2 && context.fillRect(x(k * every), EDGE.top, x((k + 1) * every) - x(k * every), bottom - EDGE.top));
    context.strokeStyle = grid;
    context.lineWidth = 0.5;
    for (const value of scale.ticks) trace(context, [EDGE.left, right], [y(value), y(value)]);
    for (const { group, each, all, steps, middle, half } of lines) {
      context.strokeStyle = context.fillStyle = group.colour;
      context.setLineDash(group.dash);
      if (half) {
        context.globalAlpha = 0.2;
        context.beginPath();
        middle.forEach((value, k) => context.lineTo(x(steps[k]), y(value + half[k])));
        for (let k = middle.length - 1; k >= 0; k--) context.lineTo(x(steps[k]), y(middle[k] - half[k]));
        context.fill();
      }
      context.globalAlpha = each.length > 2 ? 0.35 : each.length > 1 ? 0.6 : 1;
      context.lineWidth = each.length > 1 ? 0.8 : 1.6;
      each.forEach((values, k) => trace(context, Array.from(all[k], x), Array.from(values, y)));
      context.globalAlpha = 1;
      context.lineWidth = 1.8;
      if (each.length > 1) trace(context, Array.from(middle, (_, k) => x(steps[k])), Array.from(middle, y));
      context.setLineDash([]);
    }
    context.restore();
    context.fillStyle = soft;
    context.textAlign = "right";
    for (const value of scale.ticks) if (y(value) > 8) context.fillText(short(value), EDGE.left - 4, y(value) + 4);
    context.textAlign = "center";
    meta.widths.forEach((hole, k) => {
      const middle = (Math.max(x(k * every), EDGE.left) + Math.min(x((k + 1) * every), right)) / 2;
      if (x((k + 1) * every) - EDGE.left > 24 && right - x(k * every) > 24) context.fillText(`${hole} px`, middle, height - 5);
    });
    if (!lines.length) context.fillText("not logged by these runs", width / 2, height / 2);
  }

  function cursor() {
    if (!scale) return;
    sharp(above, (context, width, height) => {
      const step = cursorStep(host), { x, y } = scale;
      if (drag && drag.now !== drag.from) {
        context.fillStyle = ink(above, "--ix-accent");
        context.globalAlpha = 0.2;
        context.fillRect(Math.min(drag.from, drag.now), EDGE.top, Math.abs(drag.now - drag.from), height - EDGE.top - EDGE.bottom);
        context.globalAlpha = 1;
      }
      if (step < view.range[0] || step > view.range[1]) return;
      context.strokeStyle = ink(above, "--ix-text");
      trace(context, [x(step), x(step)], [EDGE.top, height - EDGE.bottom]);
      for (const line of lines) {
        const k = nearest(line.steps, step);
        context.fillStyle = line.group.colour;
        dot(context, x(line.steps[k]), y(line.middle[k]), 3);
      }
    });
  }

  function showTip(event) {
    const step = cursorStep(host), rows = lines.map((line) => {
      const k = nearest(line.steps, step), spread = line.half ? ` ± ${short(line.half[k])}` : "";
      return make("div", {}, make("i", { style: `background:${line.group.colour}` }), `${line.group.name}: ${short(line.middle[k])}${spread}`);
    });
    const at = lines.length ? lines[0].steps[nearest(lines[0].steps, step)] : step;
    tip.replaceChildren(make("b", { text: `step ${at}` }), ...rows);
    tip.hidden = false;
    tip.classList.toggle("ix-left", event.offsetX > above.clientWidth / 2);
  }
  const stepAt = (offset) => Math.round(Math.min(Math.max(scale.step(offset), 0), meta.steps));
  above.addEventListener("pointermove", (event) => {
    if (!scale) return;
    if (drag) drag.now = event.offsetX;
    host.select({ hover: stepAt(event.offsetX), playing: false });
    showTip(event);
    cursor();
  });
  above.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !scale) return;
    drag = { from: event.offsetX, now: event.offsetX };
    above.setPointerCapture(event.pointerId);
  });
  above.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const ends = [drag.from, drag.now].map(stepAt).sort((a, b) => a - b), wide = Math.abs(drag.now - drag.from) > 6;
    drag = null;
    if (wide && ends[1] > ends[0]) zoom(ends);
    else host.select({ step: stepAt(event.offsetX), hover: null });
  });
  above.addEventListener("pointerleave", () => { tip.hidden = true; if (!drag) host.select({ hover: null }); });
  above.addEventListener("pointercancel", () => { drag = null; tip.hidden = true; host.select({ hover: null }); });
  above.addEventListener("dblclick", () => zoom([0, meta.steps]));
  return { around, draw, cursor };
}

function trace(context, xs, ys) {
  context.beginPath();
  let down = false;
  for (let k = 0; k < xs.length; k++) {
    if (!Number.isFinite(ys[k])) { down = false; continue; }
    if (down) context.lineTo(xs[k], ys[k]);
    else context.moveTo(xs[k], ys[k]);
    down = true;
  }
  context.stroke();
}

// functions from steps and values to pixels and back, scaled to the chosen range of steps
function scaleOf(lines, view, canvas) {
  const [first, last] = view.range, inside = [];
  for (const { each, all, middle, half, steps } of lines) {
    each.forEach((values, r) => values.forEach((v, k) => all[r][k] >= first && all[r][k] <= last && inside.push(v)));
    if (half) middle.forEach((v, k) => steps[k] >= first && steps[k] <= last && inside.push(v - half[k], v + half[k]));
  }
  const log = view.log && inside.some((v) => v > 0), kept = inside.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let low = Infinity, high = -Infinity;
  for (const v of kept) { low = Math.min(low, v); high = Math.max(high, v); }
  if (!kept.length) { low = 0; high = 1; }
  if (high - low < 1e-9 * Math.abs(high) + 1e-12) { low -= Math.abs(low) * 0.1 || 0.5; high += Math.abs(high) * 0.1 || 0.5; }
  const forward = log ? Math.log10 : (v) => v;
  let [from, to] = [forward(low), forward(high)];
  const margin = 0.06 * (to - from);
  from -= margin;
  to += margin;
  const width = canvas.clientWidth - EDGE.left - EDGE.right, height = canvas.clientHeight - EDGE.top - EDGE.bottom;
  const back = log ? (v) => 10 ** v : (v) => v;
  return {
    x: (step) => EDGE.left + ((step - first) / (last - first)) * width,
    y: (value) => (log && !(value > 0) ? NaN : EDGE.top + (1 - (forward(value) - from) / (to - from)) * height),
    step: (pixel) => first + ((pixel - EDGE.left) / width) * (last - first),
    ticks: ticks(from, to, 4).map(back),
  };
}
