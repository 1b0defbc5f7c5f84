// The canvas on which a hole is painted: its pixels, its steps, and mouse, pen, touch and keys.

const PAINT_HOLE = [255, 0, 144]; // as in results/pictures.py: a colour no photograph has
const PAINT_STEPS = 200; // that can be undone

// --- pixels: a hole has one byte a pixel, row by row, 1 = hole; points are [x, y] in pixels

function paintBits(hole) {
  const bits = new Uint8Array(Math.ceil(hole.length / 8));
  for (let k = 0; k < hole.length; k++) bits[k >> 3] |= hole[k] << (7 - (k & 7));
  return bits;
}

const within = (value, low, high) => Math.min(Math.max(value, low), high);

// [[left, right], [top, bottom]] of what lies within `reach` of a line and in the image
const paintSpan = (from, to, reach, size) => [0, 1].map((k) => [
  within(Math.floor(Math.min(from[k], to[k]) - reach), 0, size), within(Math.ceil(Math.max(from[k], to[k]) + reach), 0, size)]);

// set the pixels whose centre lies within half of `width` from the line; what is outside is cut off
function paintLine(hole, size, from, to, width, value) {
  const radius = Math.max(width, Math.SQRT2) / 2; // a thinner line would have gaps
  const [[left, right], [top, bottom]] = paintSpan(from, to, radius, size);
  const dx = to[0] - from[0], dy = to[1] - from[1], length = Math.max(dx * dx + dy * dy, 1e-9);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - from[0], py = y + 0.5 - from[1], t = within((px * dx + py * dy) / length, 0, 1);
      if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= radius ** 2 + 1e-9) hole[y * size + x] = value;
    }
  }
}

function paintBox(hole, size, from, to, value) {
  const [[left, right], [top, bottom]] = paintSpan(from, to, 0, size);
  for (let y = top; y < bottom; y++) hole.fill(value, y * size + left, y * size + right);
}

// an image with the hole painted; where not all networks can fill it, in every second pixel
function paintOver(pixels, hole, size, isCentral) {
  const shown = Uint8Array.from(pixels), low = size / 4, high = size - low;
  for (let k = 0; k < hole.length; k++) {
    const x = k % size, y = Math.floor(k / size), inside = !isCentral || (Math.min(x, y) >= low && Math.max(x, y) < high);
    if (hole[k] && (inside || (x + y) % 2)) shown.set(PAINT_HOLE, 3 * k);
  }
  return shown;
}

// --- the hole and its steps

function paintSteps(size, changed) {
  const past = [], future = [], empty = () => ({ hole: new Uint8Array(size * size), width: null }); // width: of a preset
  const now = () => ({ hole: steps.hole.slice(), width: steps.width });
  const put = (state) => { Object.assign(steps, state); changed(); };
  const keep = (before) => { past.splice(0, past.length - PAINT_STEPS + 1); past.push(before); future.length = 0; };
  const swap = (from, to) => { if (from.length) { to.push(now()); put(from.pop()); } };
  const steps = { ...empty(), past, future, now, put, keep, // `keep` what was before, so that it can be undone
    undo: () => swap(past, future), redo: () => swap(future, past), clear() { keep(now()); put(empty()); } };
  return steps;
}

// --- the canvas: mouse, pen, touch and keys; a stroke may leave it and come back

function paintBoard(size, steps, tool, changed) {
  const canvas = make("canvas", { class: "ix-pixels", tabindex: "0", role: "application", width: size, height: size,
    "aria-label": "hole: paint with the mouse, or move with the arrow keys and paint with Enter" });
  const ring = make("div", { class: "ix-ring", hidden: true }), at = [size / 2, size / 2];
  const board = { around: make("div", { class: "ix-easel" }, canvas, ring), canvas, aim, stroke: null };

  const point = (event, box = canvas.getBoundingClientRect()) =>
    [((event.clientX - box.left) / box.width) * size, ((event.clientY - box.top) / box.height) * size];
  function aim(to = at) {
    at.splice(0, 2, ...to);
    const share = (value) => `${(100 * value) / size}%`, width = tool.kind === "rectangle" ? 1 : Math.max(tool.width, Math.SQRT2);
    Object.assign(ring.style, { left: share(at[0]), top: share(at[1]), width: share(width) });
  }
  function begin(erases, id) {
    board.stroke = { id, before: steps.now(), from: at.slice(), value: erases ? 0 : 1, box: tool.kind === "rectangle" };
    draw(at.slice());
  }
  function draw(to) {
    const { before, from, value, box } = board.stroke;
    if (box) {
      steps.hole.set(before.hole);
      paintBox(steps.hole, size, from, to, value);
    } else {
      paintLine(steps.hole, size, from, to, tool.width, value);
      board.stroke.from = to;
    }
    steps.width = null;
    changed();
  }
  function end() {
    const { before } = board.stroke;
    board.stroke = null;
    if (before.hole.some((value, k) => value !== steps.hole[k])) steps.keep(before);
    else steps.width = before.width;
    changed();
  }
  canvas.addEventListener("pointerdown", (event) => {
    const rubber = event.button === 5; // the other end of a pen
    if (board.stroke || !event.isPrimary || event.ctrlKey || (event.button !== 0 && !rubber)) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    aim(point(event));
    begin(rubber || tool.kind === "eraser", event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    ring.hidden = event.pointerType === "touch";
    aim(point(event));
    if (!board.stroke || event.pointerId !== board.stroke.id) return;
    const between = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const one of between.length ? between : [event]) draw(point(one));
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(kind, (event) => { if (board.stroke && event.pointerId === board.stroke.id) end(); });
  }
  for (const kind of ["pointerleave", "blur"]) canvas.addEventListener(kind, () => { ring.hidden = true; });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (board.stroke || !(move || event.key === "Enter")) return;
    event.preventDefault();
    event.stopPropagation(); // arrow keys also move the cursor in time
    ring.hidden = false;
    if (move) return aim(at.map((value, k) => within(value + move[k] * (event.shiftKey ? tool.width : 1), 0.5, size - 0.5)));
    begin(tool.kind === "eraser");
    end();
  });
  return board;
}
