// Wipe and zoom between any two fills, the input or the truth.

function wipe(place, host) {
  const { meta } = host, view = { share: 0.5, zoom: 1 };
  const left = choice("left", [], "", () => redraw()), right = choice("right", [], "", () => redraw());
  const slider = make("input", { type: "range", min: "0", max: "100", value: "50", "aria-label": "where the two pictures meet",
    oninput: () => { view.share = slider.value / 100; paint(); } });
  const zoom = make("input", { type: "range", min: "1", max: "6", step: "0.5", value: "1", "aria-label": "zoom",
    oninput: () => { view.zoom = Number(zoom.value); zoomed.style.width = `${100 * view.zoom}%`; } });
  const canvas = pixelCanvas("two pictures, one left and one right of the line"), zoomed = make("div", { class: "ix-zoomed" }, canvas);
  const frame = make("div", { class: "ix-large ix-scroll" }, zoomed);
  const difference = pixelCanvas("difference"), note = make("p", { class: "ix-note" });
  place.append(
    make("div", { class: "ix-row ix-stays" }, left.around, right.around,
      make("label", { class: "ix-field" }, make("span", { text: "wipe" }), slider), make("label", { class: "ix-field" }, make("span", { text: "zoom" }), zoom)),
    make("div", { class: "ix-pair" }, frame, make("div", { class: "ix-large" }, difference)), note);
  let sides = null;
  canvas.addEventListener("pointerdown", (event) => { if (event.button === 0) { canvas.setPointerCapture(event.pointerId); drag(event); } });
  canvas.addEventListener("pointermove", (event) => event.buttons & 1 && drag(event));
  function drag(event) {
    view.share = Math.min(Math.max(event.offsetX / canvas.clientWidth, 0), 1);
    slider.value = String(Math.round(100 * view.share));
    paint();
  }
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host, TILES), { size } = meta;
    const options = [["truth", "truth"], ...runs.map((run) => [run.name, nameOf(host, run)])], names = options.map(([key]) => key);
    const asked = host.selection.wiped; // a fill on which someone clicked
    host.selection.wiped = "";
    const kept = (value, otherwise) => (names.includes(value) ? value : otherwise);
    refill(left.select, options, kept(asked, kept(left.select.value, names[1])));
    refill(right.select, options, kept(right.select.value, "truth"));
    const { when, base, shown } = await pictures(host, runs);
    const of = (name) => (name === "truth" ? { fill: base.truth } : shown[runs.findIndex((run) => run.name === name)]);
    sides = [of(left.select.value), of(right.select.value)];
    if (sides.some((side) => !side)) throw new Error("One of the two fills was not recorded at this step: move the cursor to the end.");
    paint();
    const [a, b] = sides.map((side) => side.fill.data), away = new Float32Array(size * size);
    for (let k = 0; k < a.length; k++) away[Math.floor(k / 3)] += Math.abs(a[k] - b[k]) / 765;
    putMap(difference, away, size, size, (v) => graded(4 * v));
    const words = ({ select }) => select.selectedOptions[0].textContent;
    note.textContent = `Left ${words(left)}, right ${words(right)}; ${describe(host, when)}. Drag the line on the picture. Beside it: their difference (yellow: 0.25 or more of the range).`;
  });
  function paint() {
    if (!sides) return;
    const { size } = meta, cut = Math.round(view.share * size), mixed = sides[1].fill.data.slice();
    for (let y = 0; y < size; y++) mixed.set(sides[0].fill.data.subarray(3 * y * size, 3 * (y * size + cut)), 3 * y * size);
    putPixels(canvas, mixed, size, size);
    zoomed.style.setProperty("--cut", `${100 * view.share}%`);
  }
  host.on("selection", redraw);
  redraw();
}
