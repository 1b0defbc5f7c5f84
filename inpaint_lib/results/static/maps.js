// Maps: hole L1 by stage and width, errors of single images, and what attention copies.

// one heat map a run; a click sets stage and width; minus another run: colours centred at zero
function matrix(place, host) {
  const { meta } = host, grid = make("div", { class: "ix-tiles ix-wide" }), note = make("p", { class: "ix-note" });
  const minus = choice("minus", [["", "nothing"]], "", () => redraw());
  place.append(make("div", { class: "ix-row ix-stays" }, minus.around), grid, note);
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host, TILES), stage = stageOf(host);
    refill(minus.select, [["", "nothing"], ...runs.map((run) => [run.name, nameOf(host, run)])],
      runs.some((run) => run.name === minus.select.value) ? minus.select.value : "");
    const found = await host.gather("errors", runs), other = runs.findIndex((run) => run.name === minus.select.value);
    const tables = found.map(({ stages }) => stages.data.map((v, k) => (other < 0 ? v : v - found[other].stages.data[k])));
    const all = tables.flatMap((table) => [...table]).filter(Number.isFinite);
    const low = Math.min(...all), high = Math.max(...all), reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
    const colour = (v) => (other < 0 ? graded((v - low) / (high - low || 1)) : signed(-v / reach));
    grid.replaceChildren(...runs.map((run, k) => make("div", { class: "ix-tile" },
      make("div", { class: "ix-name" }, make("i", { style: `background:${colourOf(host, run)}` }), nameOf(host, run)),
      heatTable(tables[k], colour, other >= 0, stage))));
    note.textContent = other < 0
      ? "Hole L1 after every stage (rows), for every hole width (columns), on the same test images. Dark is good. A click sets stage and hole."
      : `Hole L1 minus that of ${nameOf(host, runs[other])}: blue is better than it, red worse, white equal. A click sets stage and hole.`;
  });
  function heatTable(values, colour, difference, stage) {
    const { widths } = meta, chosen = host.selection.width;
    const cell = (s, w) => {
      const value = values[s * widths.length + w], rgb = Number.isFinite(value) ? colour(value) : [128, 128, 128];
      const text = Number.isFinite(value) ? (difference && value > 0 ? "+" : "") + value.toFixed(3) : "–";
      const current = s + 1 === stage && widths[w] === chosen;
      return make("td", {}, make("button", {
        type: "button", text, class: current ? "ix-current" : "", style: `background:${css(rgb)};color:${onColour(rgb)}`,
        "aria-label": `stage ${s + 1}, hole ${widths[w]} px: ${text}`,
        onclick: () => host.select({ width: widths[w], step: Math.round((s + 1) * meta.steps / meta.stages), hover: null }),
      }));
    };
    return make("table", { class: "ix-heat" },
      make("tr", {}, make("th", { text: "" }), ...widths.map((w) => make("th", { text: `${w} px` }))),
      ...widths.map((_, s) => make("tr", {}, make("th", { text: String(s + 1) }), ...widths.map((_, w) => cell(s, w)))));
  }
  host.on("selection", redraw);
  redraw();
}

// hole L1 of every test image under two runs; a dot opens the image
function scatter(place, host) {
  const { meta } = host, first = choice("across", [], "", () => redraw()), second = choice("up", [], "", () => redraw());
  const canvas = make("canvas", { class: "ix-dots" }), note = make("p", { class: "ix-note" });
  place.append(make("div", { class: "ix-row ix-stays" }, first.around, second.around), canvas, note);
  let dots = [];
  const redraw = host.redrawer(place, async () => {
    const runs = host.chosen();
    if (runs.length < 2) throw new Error("Choose two runs or more: each dot shows the errors of both for one test image.");
    const options = runs.map((run) => [run.name, nameOf(host, run)]), keep = ({ select }, k) =>
      refill(select, options, runs.some((run) => run.name === select.value) ? select.value : runs[k].name);
    keep(first, 0);
    keep(second, 1);
    const pair = [first, second].map(({ select }) => runs.find((run) => run.name === select.value));
    const found = await host.gather("errors", pair), row = meta.widths.indexOf(host.selection.width);
    const [a, b] = found.map(({ images }) => part(images, row).data);
    sharp(canvas, (context, width, height) => {
      const high = 1.05 * Math.max(...a, ...b), at = (v, length) => 40 + (v / high) * (length - 50);
      const x = (v) => at(v, width), y = (v) => height - at(v, height);
      context.strokeStyle = ink(canvas, "--ix-line");
      trace(context, [x(0), x(high)], [y(0), y(high)]);
      context.fillStyle = ink(canvas, "--ix-soft");
      context.textAlign = "center";
      for (const value of ticks(0, high, 4)) {
        context.fillText(short(value), x(value), height - 24);
        context.fillText(short(value), 22, y(value) + 4);
      }
      context.fillText(nameOf(host, pair[0]), width / 2, height - 8);
      upright(context, nameOf(host, pair[1]), 10, height / 2);
      dots = [...a].map((value, k) => [x(value), y(b[k])]);
      dots.forEach(([left, top], k) => {
        const current = k === host.selection.image, recorded = host.dataset().recorded.includes(k);
        context.fillStyle = ink(canvas, current || recorded ? "--ix-accent" : "--ix-soft");
        dot(context, left, top, current ? 7 : recorded ? 4 : 3);
      });
    });
    const better = [...a].filter((value, k) => value < b[k]).length;
    note.textContent = `After the last stage, ${host.selection.width} px holes: ${nameOf(host, pair[0])} fills ${better} of ${a.length} test images better (above the line). Blue: recorded; large: image ${host.selection.image}. A click opens an image${host.live ? "" : ", if it is recorded"}.`;
  });
  canvas.addEventListener("click", (event) => {
    const away = dots.map(([x, y]) => (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2), best = away.indexOf(Math.min(...away));
    if (best >= 0 && away[best] < 400 && (host.live || host.dataset().recorded.includes(best))) host.select({ image: best });
  });
  host.on("selection", (_, changed) => changed.every((key) => key === "hover" || key === "step") || redraw());
  new ResizeObserver(() => redraw()).observe(canvas);
  redraw();
}

// hover a patch in the hole: the known patches from which free_form's attention copies
function attention(place, host) {
  const { meta } = host, note = make("p", { class: "ix-note" });
  const which = choice("run", [], "", () => redraw()), canvas = pixelCanvas("fill");
  const above = make("canvas", { class: "ix-above" }), frame = make("div", { class: "ix-large" }, canvas, above);
  place.append(make("div", { class: "ix-row ix-stays" }, which.around), frame, note);
  let found = null, patch = null;
  const redraw = host.redrawer(place, async () => {
    const runs = host.chosen().filter((run) => run.architecture === "free_form");
    if (!runs.length) throw new Error("Only free_form has contextual attention: choose one of its runs.");
    refill(which.select, runs.map((run) => [run.name, nameOf(host, run)]), runs.some((run) => run.name === which.select.value) ? which.select.value : runs[0].name);
    const { image, width } = host.selection;
    const stage = stageOf(host, 0);
    found = await host.ask("attention", { run: which.select.value, stage, width, image });
    putPixels(canvas, found.fill.data, meta.size, meta.size);
    frame.querySelectorAll("svg").forEach((svg) => svg.remove());
    frame.append(holeOverlay(found.hole.data, meta.size));
    show(stage);
  });
  function show(stage) {
    const [side] = found.valid.shape, cell = meta.size / side, n = side * side;
    const known = found.valid.data.reduce((sum, v) => sum + v, 0);
    const inHole = [...found.valid.data.keys()].filter((k) => !found.valid.data[k]);
    if (patch === null || patch >= n) patch = inHole[Math.floor(inHole.length / 2)] ?? 0;
    const weights = found.weights.data.slice(patch * n, (patch + 1) * n), largest = Math.max(...weights) || 1;
    sharp(above, (context, width) => {
      const unit = width / side;
      weights.forEach((weight, k) => {
        context.strokeStyle = "rgba(255,255,255,0.35)";
        context.lineWidth = 1;
        context.strokeRect((k % side) * unit, Math.floor(k / side) * unit, unit, unit);
        if (weight > 0.01 * largest) {
          context.fillStyle = `rgba(240, 228, 66, ${0.75 * weight / largest})`;
          context.fillRect((k % side) * unit, Math.floor(k / side) * unit, unit, unit);
        }
      });
      context.strokeStyle = "#00e5ff";
      context.lineWidth = 3;
      context.strokeRect((patch % side) * unit + 1.5, Math.floor(patch / side) * unit + 1.5, unit - 3, unit - 3);
    });
    const few = known < 10 ? " That is few: at small images a hole of half the width leaves hardly any patch it does not touch." : "";
    note.textContent = `${stage === undefined ? "" : stage ? `End of stage ${stage}. ` : "Before training. "}Hover a patch: yellow patches are what it copies (largest weight ${short(largest)}). ${n} patches of ${cell} px; ${known} may be copied, since the hole does not touch them or their neighbours.${few}${known ? "" : " Nothing can be copied here: choose a smaller hole."}`;
  }
  above.addEventListener("pointermove", (event) => {
    if (!found) return;
    const [side] = found.valid.shape, unit = above.clientWidth / side;
    patch = Math.min(side - 1, Math.floor(event.offsetY / unit)) * side + Math.min(side - 1, Math.floor(event.offsetX / unit));
    show();
  });
  host.on("selection", redraw);
  redraw();
}
