// The game between G and D: the phase plot, and D's gradient on the fill.

// D's mean score of real images against that of fills, a trail per setup: one plot an architecture
function game(place, host) {
  const grid = make("div", { class: "ix-plots ix-phases" });
  place.append(grid, make("p", { class: "ix-note", text: "A trail runs from the ring to the dot; a square marks the cursor. On the diagonal D cannot tell fills from real images; far above it, D wins. Dotted: the boundary above which a score means “real”. Lines are means over seeds." }));
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host), found = await histories(host, runs), groups = groupsOf(host, runs);
    const names = [...new Set(groups.map((group) => group.architecture))];
    fit(grid, names.length, () => make("div", { class: "ix-phase" }, make("div", { class: "ix-name" }), make("canvas", {})));
    names.forEach((name, k) => {
      const [title, canvas] = grid.children[k].children, of = groups.filter((group) => group.architecture === name);
      title.textContent = name;
      sharp(canvas, (context, width, height) => phase(context, width, height, canvas, host, of, found));
    });
  });
  host.on("selection", redraw);
  new ResizeObserver(() => redraw()).observe(grid);
  redraw();
}

function phase(context, width, height, canvas, host, groups, found) {
  const trails = groups.map((group) => {
    const of = (key) => overSeeds(group.members.map((k) => found[k][key]), {}).middle;
    return { group, steps: found[group.members[0]].step, real: of("d_real"), fake: of("d_fake") };
  });
  const all = trails.flatMap(({ real, fake }) => [...real, ...fake]).filter(Number.isFinite);
  let low = Math.min(...all), high = Math.max(...all);
  const margin = 0.05 * (high - low || 1), boundary = host.meta.boundaries[groups[0].architecture];
  low -= margin;
  high += margin;
  const x = (v) => EDGE.left + ((v - low) / (high - low)) * (width - EDGE.left - EDGE.right);
  const y = (v) => height - 30 - ((v - low) / (high - low)) * (height - 36);
  const soft = ink(canvas, "--ix-soft");
  context.strokeStyle = ink(canvas, "--ix-line");
  trace(context, [x(low), x(high)], [y(low), y(high)]);
  context.setLineDash([2, 3]);
  if (boundary > low && boundary < high) {
    trace(context, [x(boundary), x(boundary)], [y(low), y(high)]);
    trace(context, [x(low), x(high)], [y(boundary), y(boundary)]);
  }
  context.setLineDash([]);
  context.fillStyle = soft;
  context.textAlign = "center";
  for (const value of ticks(low, high, 4)) {
    context.fillText(short(value), x(value), height - 17);
    context.save();
    context.textAlign = "right";
    context.fillText(short(value), EDGE.left - 4, y(value) + 4);
    context.restore();
  }
  context.fillText("D(fill)", width / 2, height - 4);
  upright(context, "D(real)", 9, height / 2);
  for (const { group, steps, real, fake } of trails) {
    const xs = Array.from(fake, x), ys = Array.from(real, y), now = nearest(steps, cursorStep(host));
    context.strokeStyle = context.fillStyle = group.colour;
    context.globalAlpha = 0.35;
    context.lineWidth = 1.5;
    trace(context, xs, ys);
    context.globalAlpha = 1;
    context.lineWidth = 2.2;
    trace(context, xs.slice(0, now + 1), ys.slice(0, now + 1));
    context.beginPath();
    context.arc(xs[0], ys[0], 4, 0, 7);
    context.stroke();
    dot(context, xs[xs.length - 1], ys[ys.length - 1], 3);
    context.fillRect(xs[now] - 5, ys[now] - 5, 10, 10);
    context.strokeStyle = ink(canvas, "--ix-text");
    context.lineWidth = 1;
    context.strokeRect(xs[now] - 5, ys[now] - 5, 10, 10);
  }
}

// the gradient of G's adversarial loss at the fill, recorded at the ends of stages
function gradient(place, host) {
  const grid = make("div", { class: "ix-tiles ix-wide" }), note = make("p", { class: "ix-note" });
  place.append(grid, note);
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host, TILES), { meta } = host, { image, width } = host.selection, stage = stageOf(host);
    if (!host.dataset().recorded.includes(image)) throw new Error("Only recorded images have a gradient: choose one of them above.");
    const [records, logs] = await Promise.all([host.gather("recorded", runs, { image }), histories(host, runs)]);
    if (!records.some((record) => record[`end_gradients_${width}`])) throw new Error("This study has no recorded gradient.");
    const maps = records.map((record) => gradientMap(record, width, stage));
    const reach = {};
    runs.forEach((run, k) => maps[k] && maps[k].values.forEach((v) => { reach[run.architecture] = Math.max(reach[run.architecture] || 1e-12, Math.abs(v)); }));
    grid.replaceChildren(...runs.map((run, k) => {
      const tile = makeTile(wordsOf(host, run), colourOf(host, run));
      if (!maps[k]) return tile.tile;
      putMap(tile.canvas, maps[k].values, meta.size, meta.size, (v) => signed(v / reach[run.architecture]));
      const at = nearest(logs[k].step, stage * meta.steps / meta.stages), log = (key) => short((logs[k][key] || [])[at]);
      tile.maps.replaceChildren(make("table", { class: "ix-values" }, ...[
        ["norm on the fill", short(maps[k].norm)], ["on G, adversarial", log("grad_norm_adversarial")],
        ["on G, reconstruction", log("grad_norm_reconstruction")], ["their ratio", log("adversarial_share")], ["their cosine", log("gradient_cosine")],
      ].map(([name, value]) => make("tr", {}, make("td", { text: name }), make("td", { text: value })))));
      return tile.tile;
    }));
    note.textContent = `End of stage ${stage}. Colour: the gradient of G's unweighted adversarial loss at the fill, mean of the channels; blue: that loss falls if the pixel gets darker, red: brighter; one scale per architecture (${Object.entries(reach).map(([name, v]) => `${name} ±${short(v)}`).join(", ")}). Norms on G's weights are as the setup weighs them, at the last log point of the stage; a cosine below 0 means that the two losses pull apart.`;
  });
  host.on("selection", redraw);
  redraw();
}

function gradientMap(record, width, stage) {
  const levels = record[`end_gradients_${width}`], scales = record[`end_scales_${width}`];
  if (!levels) return null;
  const { data } = part(levels, stage - 1), scale = scales.data[stage - 1], values = new Float32Array(data.length / 3);
  let square = 0;
  for (let k = 0; k < data.length; k++) {
    values[Math.floor(k / 3)] += (data[k] * scale) / 3;
    square += (data[k] * scale) ** 2;
  }
  return { values, norm: Math.sqrt(square) };
}
