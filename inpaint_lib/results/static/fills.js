// Fills of all chosen runs at the cursor, with D's maps below them.

const TILES = 16; // runs drawn, at most: more would not fit, and the page says so

// What every run shows at the cursor: [{fill, scores: [{shape, data}], real, l1}], whether anything is
// kept of it at all, and truth and holes
async function pictures(host, runs) {
  const { dataset, image, width } = host.selection, when = moment(host);
  const [base, found] = await Promise.all([
    host.ask("image", { dataset, image }),
    when.recorded ? host.gather("recorded", runs, { image })
      : host.gather("fill", runs, { stage: when.stage, width, image }),
  ]);
  const shown = runs.map((run, k) => {
    const one = when.recorded ? fromRecord(found[k], when, width, host.meta.stages) : found[k];
    const hole = base.holes[`${host.meta.families[run.architecture]}_${width}`];
    return one && { ...one, hole, l1: one.l1 ?? holeError(one.fill, base.truth, hole) };
  });
  return { when, base, shown, kept: found.map((one) => !when.recorded || Object.keys(one).length > 0) };
}

function fromRecord(record, when, width, stages) {
  const scales = (begin) => Object.keys(record).filter((key) => key.startsWith(begin)).sort();
  if (when.kind === "point") {
    if (!record.steps) return when.last ? fromRecord(record, { stage: stages }, width, stages) : null;
    const k = nearest(record.steps.data, when.step);
    return { fill: part(record.fills, k), scores: scales("scores_").map((key) => part(record[key], k)) };
  }
  const fills = record[`end_fills_${width}`]; // of the last stages: published studies keep one or all
  const k = fills ? fills.shape[0] - 1 - (stages - when.stage) : -1;
  if (k < 0 || (record.lacking && record.lacking.includes(`${when.stage}_${width}`))) return null;
  return {
    fill: part(fills, k),
    scores: scales(`end_scores_${width}_`).map((key) => part(record[key], k)),
  };
}

// the mean absolute error in the hole, as metrics.py computes it
function holeError(fill, truth, hole) {
  let sum = 0, n = 0;
  for (let k = 0; k < hole.data.length; k++) {
    if (!hole.data[k]) continue;
    for (let c = 3 * k; c < 3 * k + 3; c++) sum += Math.abs(fill.data[c] - truth.data[c]) / 255;
    n += 3;
  }
  return sum / n;
}

// how far D's scores reach from the boundary, by architecture, over all that is shown
function reaches(host, runs, shown) {
  const found = {};
  runs.forEach((run, k) => {
    const boundary = host.meta.boundaries[run.architecture];
    for (const map of [...((shown[k] || {}).scores || []), ...((shown[k] || {}).real || [])]) {
      for (const value of map.data) {
        found[run.architecture] = Math.max(found[run.architecture] || 1e-6, Math.abs(value - boundary));
      }
    }
  });
  return found;
}

// a picture with its name, the hole's outline, a number and D's maps
function makeTile(words, colour, act) {
  const [name, rest = ""] = [words].flat();
  const canvas = pixelCanvas(`${name} ${rest}`), maps = make("div", { class: "ix-maps" });
  const title = make("div", { class: "ix-name", title: `${name} ${rest}` }, make("i", { style: `background:${colour}` }), name,
    make("small", { text: rest }));
  const frame = make(act ? "button" : "div", act ? { class: "ix-frame", type: "button", onclick: act,
    title: "compare by wiping", "aria-label": `wipe ${name} ${rest}` } : { class: "ix-frame" }, canvas);
  const number = make("div", { class: "ix-number" });
  return { tile: make("div", { class: "ix-tile" }, title, frame, number, maps), frame, canvas, number, maps };
}

function drawMaps(place, maps, boundary, reach) {
  fit(place, maps.length, () => pixelCanvas("D's scores"));
  maps.forEach((map, k) => {
    const [height, width] = map.shape;
    putMap(place.children[k], map.data, width, height, (value) => signed((value - boundary) / reach));
    place.children[k].title = `D's mean score at scale ${k + 1}: ${short(mean([...map.data]))}`;
  });
}

function fills(place, host) {
  const grid = make("div", { class: "ix-tiles" }), note = make("p", { class: "ix-note" });
  place.append(grid, note);
  let tiles = [], drawn = "";

  function rebuild(runs) {
    const key = runs.map((run) => run.name + nameOf(host, run)).join();
    if (key === drawn) return;
    drawn = key;
    tiles = [makeTile(["input", ""], "transparent"),
      ...runs.map((run) => makeTile(wordsOf(host, run), colourOf(host, run),
        () => host.select({ tab: "wipe", wiped: run.name }))),
      makeTile(["truth", ""], "transparent")];
    grid.replaceChildren(...tiles.map(({ tile }) => tile));
  }

  const redraw = host.redrawer(place, async () => {
    const { size, boundaries } = host.meta, asked = someRuns(host).sort((a, b) => a.seed - b.seed).slice(0, TILES);
    const { when, base, ...found } = await pictures(host, asked);
    const some = asked.map((_, k) => found.kept[k]), runs = asked.filter((_, k) => some[k]);
    const shown = found.shown.filter((_, k) => some[k]);
    rebuild(runs);
    const reach = reaches(host, runs, shown);
    runs.forEach((run, k) => {
      const tile = tiles[k + 1], one = shown[k];
      tile.number.textContent = one ? `L1 ${one.l1.toFixed(3)}` : "not recorded";
      if (!one) { tile.maps.replaceChildren(); putPixels(tile.canvas, base.truth.data.map(() => 128), size, size); return; }
      putPixels(tile.canvas, one.fill.data, size, size);
      drawMaps(tile.maps, one.scores, boundaries[run.architecture], reach[run.architecture]);
      outline(tile, one.hole, size);
    });
    const first = shown.find(Boolean) || { hole: null };
    const hidden = base.truth.data.slice();
    if (first.hole) first.hole.data.forEach((inside, k) => { if (inside) hidden.set([255, 0, 144], 3 * k); });
    putPixels(tiles[0].canvas, hidden, size, size);
    const last = tiles[tiles.length - 1], real = shown.find((one) => one && one.real);
    putPixels(last.canvas, base.truth.data, size, size);
    if (real) {
      const k = shown.indexOf(real), name = runs[k].architecture;
      drawMaps(last.maps, real.real, boundaries[name], reach[name]);
      last.number.textContent = `D: ${nameOf(host, runs[k])}`;
    } else { last.maps.replaceChildren(); last.number.textContent = ""; }
    note.textContent = noteOf(when, runs, asked.length);
  });

  function outline(tile, hole, size) {
    if (tile.hole === hole) return;
    tile.hole = hole;
    tile.frame.querySelectorAll("svg").forEach((svg) => svg.remove());
    tile.frame.append(holeOverlay(hole.data, size));
  }
  function noteOf(when, runs, asked) {
    const n = host.chosen().length, few = n > asked ? ": choose fewer setups or seeds." : ": of the others no fills are recorded.";
    const more = n > runs.length ? ` ${runs.length} of ${n} chosen runs are drawn${few}` : "";
    const batch = when.recorded && runs.some((run) => run.architecture === "context_encoder")
      ? " D's maps: norms as in training." : "";
    const maps = grid.querySelector(".ix-maps canvas") ? " Below each fill, patch by patch, what D says: blue “real”, red “fill”, white its boundary." : "";
    return `Shown: ${describe(host, when)}.${maps}${maps && batch}${more}`;
  }
  host.on("selection", redraw);
  redraw();
}
