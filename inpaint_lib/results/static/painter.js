// The painter: paint a hole on an image; every chosen run fills it while you paint.

const PAINT_FAMILIES = ["center", "square", "rectangles", "free_form"]; // of masks.py
const PAINT_CHUNK = 2 ** 20; // bytes of a file in one message

// a slider over 1 .. most px
function paintSlider(label, most, title, act) {
  const input = make("input", { type: "range", min: "1", max: String(most), title, "aria-label": `${label}, width in px`,
    oninput: () => act(Number(input.value)) });
  const text = make("output", {}), around = make("label", { class: "ix-field" }, make("span", { text: label }), input, text);
  return { around, set(value) { input.value = String(value); text.textContent = `${value} px`; } };
}

// pictures [{name, number, pixels}] side by side, on white, as a canvas to save
function paintSheet(pictures, size, caption) {
  const side = size * Math.max(1, Math.round(192 / size)), gap = 12, head = 36, small = document.createElement("canvas");
  const columns = Math.min(pictures.length, 6), rows = Math.ceil(pictures.length / columns);
  const sheet = make("canvas", { width: columns * (side + gap) + gap, height: rows * (side + head + gap) + head });
  const context = sheet.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.fillStyle = "#000";
  context.imageSmoothingEnabled = false;
  pictures.forEach(({ name, number, pixels }, k) => {
    const x = gap + (k % columns) * (side + gap), y = Math.floor(k / columns) * (side + head + gap);
    context.font = "bold 13px sans-serif";
    context.fillText(name, x, y + 16, side);
    context.font = "12px sans-serif";
    context.fillText(number, x, y + 31, side);
    putPixels(small, pixels, size, size);
    context.drawImage(small, x, y + head, side, side);
  });
  context.fillText(caption, gap, sheet.height - 12, sheet.width - 2 * gap);
  return sheet;
}

function painter(place, host) {
  const { meta } = host, { size } = meta, owned = []; // own images {name, data}
  const tool = { kind: "brush", width: Math.max(Math.round(size / 8), 1) };
  const steps = paintSteps(size, changed), board = paintBoard(size, steps, tool, changed);
  const results = make("div", { class: "ix-results" }), grid = make("div", { class: "ix-tiles" });
  const note = make("p", { class: "ix-note", role: "status" }), word = make("p", { class: "ix-note", role: "status" });
  let own = null, truth = null, shown = null, tiles = [], drawn = "", asking = "";

  const button = (text, title, act, kind = "") => make("button", { type: "button", text, title, onclick: act, class: kind });
  const tell = (text, bad) => { word.textContent = text; word.classList.toggle("ix-refused", Boolean(bad)); };
  const chosen = () => host.chosen().slice(0, TILES);
  const isCentral = () => chosen().some((run) => meta.central.includes(run.architecture));
  const asked = () => ({ dataset: host.selection.dataset, image: host.selection.image, runs: chosen().map((run) => run.name),
    stage: Math.round((cursorStep(host) / meta.steps) * meta.stages), width: steps.width });
  const when = (stage) => (stage ? `end of stage ${stage}` : "before training");
  const level = (maps) => mean(maps.map((map) => mean([...map.data]))).toFixed(2);

  function changed() {
    paintCanvas();
    undo.disabled = !steps.past.length;
    redo.disabled = !steps.future.length;
    fill();
  }
  function paintCanvas() {
    if (truth) putPixels(board.canvas, paintOver(truth, steps.hole, size, isCentral()), size, size);
  }
  const fill = host.redrawer(results, async () => {
    const runs = chosen(), params = asked(), picture = own ? own.name : `test image ${params.image}`;
    asking = JSON.stringify(params);
    const bits = paintBits(steps.hole), key = `${asking} ${owned.indexOf(own)} ${bits}`;
    if (shown && shown.key === key) return; // the end of a stroke changes nothing
    const found = await host.request("paint", params, own ? [bits, own.data] : [bits]);
    truth = found.truth.data;
    shown = { ...found, key, names: runs.map((run) => nameOf(host, run)), picture, stage: params.stage };
    paintCanvas();
    rebuild(runs, shown.names.join());
    const reach = reaches(host, runs, found.runs), path = outlineOf(found.filled.data, size);
    tiles.forEach((tile, k) => {
      const one = found.runs[k], { architecture } = runs[k] || {};
      putPixels(tile.canvas, one ? one.fill.data : truth, size, size);
      tile.outline.firstChild.setAttribute("d", path);
      tile.number.textContent = one ? `hole L1 ${one.l1.toFixed(3)}` : found.hole && runs[k] ? "published without its network" : "";
      tile.scores.textContent = one ? `D ${level(one.scores)}, of truth ${level(one.real)}` : "";
      drawMaps(tile.maps, one ? one.scores : [], meta.boundaries[architecture], reach[architecture]);
    });
    note.textContent = noteOf(found, someRuns(host, TILES)); // or says that there is none
  });
  function rebuild(runs, names) {
    if (names === drawn) return;
    drawn = names;
    tiles = [...runs.map((run) => makeTile(wordsOf(host, run), colourOf(host, run))), makeTile(["truth", ""], "transparent")];
    for (const tile of tiles) {
      Object.assign(tile, { outline: holeOverlay(null, size), scores: make("div", { class: "ix-number" }) });
      tile.frame.append(tile.outline);
      tile.number.after(tile.scores);
    }
    grid.replaceChildren(...tiles.map(({ tile }) => tile));
  }
  function noteOf(found, runs) {
    const n = host.chosen().length, many = n > runs.length ? ` ${runs.length} of ${n} chosen runs are drawn.` : "";
    if (!found.hole) return `Paint a hole, or place a preset. ${found.left_out}${many}`;
    const share = ((100 * found.hole) / size ** 2).toFixed(1), norm = found.width ? ` Batch norm: for holes of ${found.width} px.` : "";
    return `${found.hole} px of hole (${share} %), ${when(shown.stage)}. Below a fill D’s mean score and its maps: `
      + `blue “real”, red “fill”.${norm} ${found.left_out}${many}`;
  }

  // --- tools

  const kinds = ["brush", "eraser", "rectangle"].map((kind) => button(kind, `key: ${kind[0]}`, () => take(kind), "ix-pill"));
  const brush = paintSlider("brush", size / 2, "keys: [ and ]", (width) => widen(width));
  const undo = button("undo", "key: z", steps.undo), redo = button("redo", "key: y", steps.redo);
  function take(kind) {
    tool.kind = kind;
    kinds.forEach((one) => one.setAttribute("aria-pressed", String(one.textContent === kind)));
    board.aim();
  }
  function widen(width) {
    tool.width = within(width, 1, size / 2);
    brush.set(tool.width);
    board.aim();
  }

  // a preset: the frozen hole of the test image, then those of the next ones; one after another is one step
  let next = 0, span = size / 2;
  const family = choice("preset", [], "", () => placePreset());
  const spans = paintSlider("size", size, "", (width) => { spans.set((span = width)); placePreset(); });
  const placePreset = host.redrawer(results, async () => {
    const params = { family: family.select.value, width: span, draw: host.selection.image + Math.max(next - 1, 0) };
    const { hole } = await host.request("preset", params);
    if (board.stroke) return; // painted on meanwhile
    if (steps.width === null) steps.keep(steps.now());
    steps.put({ hole: hole.data, width: params.width });
  });
  function offerPresets() {
    const names = isCentral() ? ["center"] : PAINT_FAMILIES, { value } = family.select;
    refill(family.select, names.map((name) => [name, name]), names.includes(value) ? value : "center");
  }

  // --- images

  const file = make("input", { type: "file", accept: "image/*", hidden: true, onchange() { read(file.files[0]).then(() => { file.value = ""; }); } });
  const upload = button("own image …", "or drop a file here", () => file.click());
  const number = make("input", { type: "number", min: "0", "aria-label": "test image", onchange() {
    own = null;
    host.select({ image: within(Math.round(Number(number.value)) || 0, 0, host.dataset().images - 1) });
    show(null);
  } });
  const picture = choice("image", [], "", (value) => show(owned[value]));
  function show(image) {
    own = image || null;
    next = 0;
    refill(picture.select, [["", "test image"], ...owned.map(({ name }, k) => [k, name])], own ? owned.indexOf(own) : "");
    number.value = String(host.selection.image);
    fill();
  }
  async function read(given) {
    if (upload.disabled) return tell("The previous file is still being read: wait for it.", true);
    upload.disabled = true;
    try {
      for (let offset = 0, found = {}; !found.image; offset = found.received) {
        const part = await given.slice(offset, offset + PAINT_CHUNK).arrayBuffer();
        found = await host.request("own_image", { name: given.name, size: given.size, offset }, [part]);
        tell(`reading ${given.name}: ${Math.round((100 * found.received) / given.size)} %`);
        if (found.image) owned.push({ name: given.name, data: found.image.data });
      }
      tell(`${given.name}: its central square at ${size} px.`);
      show(owned[owned.length - 1]);
    } catch (error) {
      tell(error.message, true);
    }
    upload.disabled = false;
  }
  place.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
  place.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    read(event.dataTransfer.files[0]);
  });

  // --- to take away

  function save() {
    if (!shown || !shown.runs.length) return tell("Nothing to save: choose runs and paint a hole first.", true);
    const { names, runs, filled } = shown, pixels = shown.truth.data, input = paintOver(pixels, filled.data, size, false);
    const fills = runs.map((one, k) => one && { name: names[k], number: `hole L1 ${one.l1.toFixed(3)}`, pixels: one.fill.data }).filter(Boolean);
    const all = [{ name: "input", number: "", pixels: input }, ...fills, { name: "truth", number: "", pixels }];
    const caption = `${meta.study}, ${host.selection.dataset}, ${shown.picture}, ${when(shown.stage)}, ${shown.hole} px of hole`;
    paintSheet(all, size, caption).toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: "fills.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      tell("Saved as fills.png.");
    });
  }
  const lines = make("textarea", { class: "ix-code", readOnly: true, hidden: true, rows: 12, spellcheck: false, "aria-label": "Python" });
  async function copy() {
    try {
      lines.value = (await host.request("code", { ...asked(), own: own && own.name }, [paintBits(steps.hole)])).code;
    } catch (error) {
      return tell(error.message, true);
    }
    lines.hidden = false;
    lines.select();
    const done = navigator.clipboard ? navigator.clipboard.writeText(lines.value) : Promise.reject(); // none without https
    return done.then(() => tell("Copied."), () => tell("Copy the lines below."));
  }

  place.addEventListener("keydown", (event) => {
    const control = (event.ctrlKey || event.metaKey) && !event.altKey; // AltGr, with which some write [, is both
    const key = control ? { z: event.shiftKey ? "y" : "z", y: "y" }[event.key.toLowerCase()] : event.key;
    const act = { z: () => undo.click(), y: () => redo.click(), "[": () => widen(tool.width - 1), "]": () => widen(tool.width + 1), b: () => take("brush"),
      e: () => take(tool.kind === "eraser" ? "brush" : "eraser"), r: () => take("rectangle") }[key];
    if (!act || ["SELECT", "TEXTAREA"].includes(event.target.tagName) || event.target.type === "number") return;
    if (!board.stroke) act();
    event.preventDefault();
    event.stopPropagation();
  });
  const row = (...parts) => make("div", { class: "ix-row" }, ...parts);
  const tools = make("div", { class: "ix-tools" },
    row(make("div", { class: "ix-pills", role: "group", "aria-label": "tools" }, ...kinds), undo, redo, button("clear", "undo brings it back", steps.clear)),
    row(brush.around),
    row(family.around, button("place", "again: another shape", () => { next++; placePreset(); }), spans.around));
  results.append(grid, note);
  place.append(row(picture.around, number, upload, file, button("save picture", "PNG: input, fills, truth", save),
    button("copy as code", "Python lines that make the same fills", copy)), word,
  make("div", { class: "ix-studio" }, board.around, results, tools), lines);
  take("brush");
  widen(tool.width);
  spans.set(span);
  offerPresets();
  changed();
  show(null);
  host.on("selection", (_, what) => {
    if (what.includes("image") || what.includes("dataset")) show(null);
    if (place.hidden || asking === JSON.stringify(asked())) return;
    offerPresets();
    fill();
  });
}
