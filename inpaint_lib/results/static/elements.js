// Elements, canvases, colours and numbers: what every panel is drawn with.

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "text") element.textContent = value;
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function vector(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// give a parent so many children
function fit(parent, count, create) {
  while (parent.children.length < count) parent.append(create());
  while (parent.children.length > count) parent.lastChild.remove();
}

// a labelled <select>; options: [[value, label]]
function choice(label, options, value, change) {
  const select = make("select", { "aria-label": label, onchange: () => change(select.value) });
  refill(select, options, value);
  const around = make("label", { class: "ix-field" }, make("span", { text: label }), select);
  return { around, select };
}

function refill(select, options, value) {
  select.replaceChildren(...options.map(([key, text]) => make("option", { value: String(key), text })));
  select.value = String(value);
}

// --- canvases

// draw (H,W,3) or (H,W,4) bytes, one pixel of the canvas each; CSS enlarges without blur
function putPixels(canvas, bytes, width, height) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const image = new ImageData(width, height), n = width * height, step = bytes.length / n;
  for (let k = 0; k < n; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = bytes[step * k + c];
    image.data[4 * k + 3] = step === 4 ? bytes[4 * k + 3] : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function pixelCanvas(label) {
  return make("canvas", { class: "ix-pixels", role: "img", "aria-label": label, width: 8, height: 8 });
}

// a canvas with the resolution of the screen: draw(context, width, height) in CSS pixels
function sharp(canvas, draw) {
  const { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
  if (!width || !height) return;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px " + ink(canvas, "font");
  draw(context, width, height);
}

// the colour that a CSS variable has here: ink(element, "--ix-line"); looked up twice a second
const INKS = new Map();
function ink(element, name) {
  const now = performance.now(), known = INKS.get(name);
  if (known && now - known.at < 500) return known.value;
  const style = getComputedStyle(element), value = name === "font" ? style.fontFamily : style.getPropertyValue(name).trim();
  INKS.set(name, { at: now, value });
  return value;
}

// the borders of a hole (H,W) as one SVG path in pixels
function outlineOf(hole, size) {
  const at = (y, x) => (y >= 0 && x >= 0 && y < size && x < size ? hole[y * size + x] > 0 : false);
  let path = "";
  for (let y = 0; y <= size; y++) {
    for (let x = 0; x <= size; x++) {
      if (at(y, x) !== at(y - 1, x)) path += `M${x} ${y}h1`;
      if (at(y, x) !== at(y, x - 1)) path += `M${x} ${y}v1`;
    }
  }
  return path;
}

// an SVG that lies over a canvas and outlines a hole
function holeOverlay(hole, size) {
  const path = vector("path", { d: hole ? outlineOf(hole, size) : "" });
  return vector("svg", { viewBox: `0 0 ${size} ${size}`, class: "ix-outline" }, path);
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fill();
}

// text that is read from below
function upright(context, text, x, y) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.fillText(text, 0, 0);
  context.restore();
}

// --- colours: a value in [-1, 1] from red over white to blue, and in [0, 1] from dark to light

const RED_BLUE = [[178, 24, 43], [239, 138, 98], [247, 247, 247], [103, 169, 207], [33, 102, 172]];
const DARK_LIGHT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function ramp(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(place), stops.length - 2), part = place - k;
  return stops[k].map((from, c) => Math.round(from + part * (stops[k + 1][c] - from)));
}

const signed = (value) => ramp(RED_BLUE, (value + 1) / 2);
const graded = (value) => ramp(DARK_LIGHT, value);
const css = (rgb) => `rgb(${rgb.join(",")})`;
const onColour = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff");

// a colour mixed with as much white as it takes to be seen on a dark page
function visible(colour, place) {
  const context = make("canvas", {}).getContext("2d", { willReadFrequently: true });
  const light = (text) => {
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [0.2126, 0.7152, 0.0722].reduce((sum, weight, k) => sum + weight * (context.getImageData(0, 0, 1, 1).data[k] / 255) ** 2.2, 0.05);
  };
  const back = light(getComputedStyle(place).getPropertyValue("--ix-back").trim());
  let shown = colour;
  for (let white = 5; back < 0.2 && light(shown) < 3 * back; white += 5) shown = `color-mix(in srgb, ${colour}, #fff ${white}%)`;
  return shown;
}

// draw values (h,w) with a colour for each
function putMap(canvas, values, width, height, colour) {
  const bytes = new Uint8Array(3 * width * height);
  for (let k = 0; k < width * height; k++) bytes.set(colour(values[k]), 3 * k);
  putPixels(canvas, bytes, width, height);
}

// --- numbers

function short(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(1);
  return String(+value.toPrecision(3));
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// the index of the value nearest to another in a sorted list
function nearest(sorted, value) {
  let best = 0;
  for (let k = 1; k < sorted.length; k++) {
    if (Math.abs(sorted[k] - value) < Math.abs(sorted[best] - value)) best = k;
  }
  return best;
}

// the part [index] of an array {shape, data} along its first axis
function part(array, index) {
  const shape = array.shape.slice(1), n = shape.reduce((a, b) => a * b, 1);
  return { shape, data: array.data.subarray(index * n, (index + 1) * n) };
}
