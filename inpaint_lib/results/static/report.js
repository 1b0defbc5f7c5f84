// A report's page: tabs, tables, terms, keys, and the explorer's data. Without it everything is shown.

document.documentElement.classList.add("js");
const all = (selector, place = document) => [...place.querySelectorAll(selector)];
const node = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) key in element ? (element[key] = value) : element.setAttribute(key, value);
  element.append(...children);
  return element;
};

// --- tabs: each has an address; what lies within one opens it

function openTab() {
  const tabs = all(".tab"), asked = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!tabs.length) return;
  const tab = (asked && asked.closest(".tab")) || tabs[0], changed = !tab.classList.contains("open");
  tabs.forEach((one) => one.classList.toggle("open", one === tab));
  all(".tabs a").forEach((link) => (link.hash === `#${tab.id}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current")));
  if (tab.id === "explore") explore();
  if (asked && asked !== tab) {
    for (let fold = asked.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    asked.scrollIntoView();
  } else if (changed || asked) scrollTo(0, 0);
}

// --- tables

const textOf = (cell) => { const small = cell.querySelector("small"); return (small ? cell.textContent.replace(small.textContent, ` (${small.textContent})`) : cell.textContent).trim().replace(/\s+/g, " "); };
const valueOf = (row, k) => { const cell = row.cells[k]; return cell.dataset.v === undefined ? null : Number(cell.dataset.v); };

function sortBy(table, k, head) {
  const up = head.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
  all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...body.rows], numeric = rows.some((row) => valueOf(row, k) !== null);
  const compare = (a, b) => {
    if (!numeric) return textOf(a.cells[k]).localeCompare(textOf(b.cells[k]), undefined, { numeric: true }) * (up ? 1 : -1);
    const [x, y] = [valueOf(a, k), valueOf(b, k)];
    return x === null || y === null ? (x === null) - (y === null) : (x - y) * (up ? 1 : -1); // no value: last
  };
  body.append(...rows.sort(compare));
}

// the visible table as rows of texts; heads of two lines become one
function cellsOf(table) {
  const lines = [...table.tHead.rows], head = [...lines[lines.length - 1].cells].map(textOf);
  if (lines.length > 1) {
    let group = "";
    [...lines[0].cells].forEach((cell, k) => { group = textOf(cell) || (k ? group : ""); head[k] = `${group} ${head[k]}`.trim(); });
  }
  return [head.map((text) => text.replace(/ [▲▼]$/, "")), ...[...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [...row.cells].map(textOf))];
}

const FORMATS = {
  CSV: (rows) => rows.map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(",")).join("\n"),
  Markdown: ([head, ...rows]) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`).join("\n"),
  LaTeX: ([head, ...rows]) => {
    const line = (row) => `${row.map((text) => text.replace(/[\\&%$#_{}]/g, (c) => (c === "\\" ? "\\textbackslash{}" : `\\${c}`)).replaceAll("±", "$\\pm$")).join(" & ")} \\\\`;
    return [`\\begin{tabular}{l${"r".repeat(head.length - 1)}}`, "\\hline", line(head), "\\hline", ...rows.map(line), "\\hline", "\\end{tabular}"].join("\n");
  },
};

async function copy(text, button) {
  const named = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page opened as a file may not have a clipboard
    const area = document.body.appendChild(node("textarea", { value: text }));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = named; }, 1200);
}

function tools(place) {
  const table = place.querySelector("table"), rows = () => [...table.tBodies[0].rows], hidden = new Set(), lines = [...table.tHead.rows];
  [...lines[lines.length - 1].cells].forEach((head, k) => head.replaceChildren(node("button", { type: "button", onclick: () => sortBy(table, k, head) }, ...head.childNodes)));
  const filter = node("input", { type: "search", placeholder: "filter rows", oninput: show });
  filter.setAttribute("aria-label", "filter rows");
  function show() {
    const words = filter.value.toLowerCase().split(/\s+/);
    rows().forEach((row) => { row.hidden = hidden.has(row.dataset.setup) || !words.every((word) => row.textContent.toLowerCase().includes(word)); });
  }
  const bar = node("div", { className: "tools" }), setups = [...new Set(rows().map((row) => row.dataset.setup).filter(Boolean))];
  if (rows().length > 4) bar.append(filter);
  if (setups.length > 1) {
    bar.append(node("span", {}, "setups: ", ...setups.map((name) => node("button", { type: "button", ariaPressed: "true", textContent: name, onclick: (event) => {
      hidden.has(name) ? hidden.delete(name) : hidden.add(name);
      event.target.setAttribute("aria-pressed", String(!hidden.has(name)));
      show();
    } }))));
  }
  bar.append(node("span", {}, "copy as ", ...Object.entries(FORMATS).map(([name, format]) =>
    node("button", { type: "button", textContent: name, onclick: (event) => copy(format(cellsOf(table)), event.target) }))));
  place.prepend(bar);
  place.filter = (text) => { filter.value = text; show(); };
}

// --- terms: their meaning beside them, also while the mouse rests on one

function terms() {
  let timer = null;
  const tipOf = (button) => document.getElementById(button.getAttribute("popovertarget"));
  function put(button, tip) {
    const box = button.getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = tip;
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - width - 8));
    const top = box.bottom + height + 8 < innerHeight ? box.bottom + 4 : Math.max(8, box.top - height - 4);
    Object.assign(tip.style, { inset: "auto", left: `${left}px`, top: `${top}px` });
  }
  let last = null;
  document.addEventListener("click", (event) => { last = event.target.closest(".term") || last; }, true);
  document.addEventListener("toggle", (event) => { if (last && event.newState === "open" && event.target === tipOf(last)) put(last, event.target); }, true);
  document.addEventListener("pointerover", (event) => {
    const button = event.pointerType === "mouse" && event.target.closest && event.target.closest(".term");
    clearTimeout(timer);
    if (!button) return;
    timer = setTimeout(() => { last = button; const tip = tipOf(button); if (!tip.matches(":popover-open")) { tip.showPopover(); button.addEventListener("pointerleave", () => tip.hidePopover(), { once: true }); } }, 250);
  });
}

// --- keys: left and right turn pages, / searches

function keys(event) {
  const { tagName } = event.target, typed = /INPUT|SELECT|TEXTAREA/.test(tagName) || event.target.closest(".ix, .wide");
  if (event.altKey || event.ctrlKey || event.metaKey || typed) return;
  const link = document.querySelector({ ArrowLeft: 'a[rel="prev"]', ArrowRight: 'a[rel="next"]' }[event.key] || "none");
  if (link) link.click();
  else if (event.key === "/" && document.querySelector("#search")) { event.preventDefault(); document.querySelector("#search").focus(); }
}

function search() {
  const bar = document.querySelector(".tabs"), table = document.querySelector("#runs .table");
  if (!bar || !table) return;
  const input = node("input", { id: "search", type: "search", placeholder: "find a run  /", oninput: () => {
    if (location.hash !== "#runs") { history.pushState(null, "", "#runs"); openTab(); } // setting the hash would take the focus
    table.filter(input.value);
  } });
  input.setAttribute("aria-label", "find a run");
  input.addEventListener("keydown", (event) => {
    const first = event.key === "Enter" && [...table.querySelectorAll("tbody tr")].find((row) => !row.hidden);
    if (first) location.href = first.querySelector("a").href;
  });
  bar.append(input);
}

// --- the explorer: its data are scripts, each loaded when it is asked for

const waiting = {}, loaded = {};
window.inpaintData = (name, value) => waiting[name](value);

function script(address) {
  return new Promise((resolve, reject) => document.head.append(node("script", { src: address, onload: resolve, onerror: () => reject(new Error(`${address} is missing`)) })));
}

async function fetched(name) {
  const value = await new Promise((resolve, reject) => { waiting[name] = resolve; script(`data/${name}.js`).catch(reject); });
  const bytes = Uint8Array.from(atob(value.bytes), (c) => c.charCodeAt(0));
  const plain = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  let begin = 0;
  const views = value.sizes.map((size) => new DataView(plain, (begin += size) - size, size));
  return window.inpaint.revived(JSON.parse(new TextDecoder().decode(views[0])), views.slice(1));
}
const data = (name) => (loaded[name] ||= fetched(name));

// answers as a kernel gives them (results/explored.py), from what bundle.py wrote
async function answer(meta, kind, params) {
  if (kind === "image") return (await data(`images_${params.dataset}`))[params.image];
  const files = (part) => Promise.all(params.runs.map((name) => data(`${part}_${name.split("/").slice(0, 2).join("_")}`)));
  if (kind !== "recorded") return { runs: (await files("curves")).map((found, k) => found[params.runs[k]][kind]) };
  const found = await files("fills");
  return { runs: await Promise.all(params.runs.map((name, k) => record(meta, name, found[k][name], params.image))) };
}

// put the pixels in the holes, of which alone there are data, into the image
async function record(meta, name, fills, image) {
  const [dataset, architecture] = name.split("/"), images = await data(`images_${dataset}`), family = meta.families[architecture];
  const { truth, holes } = images[image], found = { lacking: [] }, count = (hole) => hole.data.reduce((sum, v) => sum + v, 0);
  if (!fills) return {};
  for (const { data } of Object.values(fills.summed ? {} : fills.pixels)) for (let k = 3; k < data.length; k++) data[k] += data[k - 3];
  Object.defineProperty(fills, "summed", { value: true }); // each pixel was stored less the one before
  for (const width of meta.widths) {
    const key = `${family}_${width}`, earlier = meta.datasets[dataset].recorded;
    const begin = earlier.slice(0, earlier.indexOf(image)).reduce((sum, one) => sum + count(images[one].holes[key]), 0);
    const ends = new Uint8Array(meta.stages * truth.data.length);
    for (let stage = 1; stage <= meta.stages; stage++) {
      const pixels = fills.pixels[`${stage}_${width}`], at = (stage - 1) * truth.data.length;
      if (!pixels) { found.lacking.push(`${stage}_${width}`); continue; }
      ends.set(truth.data, at);
      let k = 3 * begin;
      holes[key].data.forEach((inside, place) => { if (inside) { ends.set(pixels.data.subarray(k, k + 3), at + 3 * place); k += 3; } });
    }
    found[`end_fills_${width}`] = { shape: [meta.stages, ...truth.shape], data: ends };
    ((fills.scores || {})[width] || []).forEach(({ levels, scale }, k) => {
      const [stages, rows, ...shape] = levels.shape, n = shape[0] * shape[1], of = new Float32Array(stages * n);
      for (let j = 0; j < of.length; j++) of[j] = scale * levels.data[(Math.floor(j / n) * rows + earlier.indexOf(image)) * n + (j % n)];
      found[`end_scores_${width}_${k}`] = { shape: [stages, ...shape], data: of };
    });
  }
  return found;
}

let host = null;
async function explore() {
  const place = document.getElementById("explorer");
  if (host) return;
  host = (async () => {
    await script("assets/explorer.js");
    const meta = await data("meta");
    const made = window.inpaint.makeHost(meta, (kind, params) => answer(meta, kind, params), false);
    window.inpaint.mount(place, made);
    return made;
  })();
  host.catch((error) => { place.textContent = error.message; });
}

const kept = [], pictures = () => [...new Set(all(".tab .pixels").flatMap((e) => [...e.style.backgroundImage.matchAll(/url\("(.+?)"\)/g)].map((found) => found[1])))];

addEventListener("DOMContentLoaded", () => {
  all(".table").forEach(tools);
  search();
  terms();
  openTab();
  addEventListener("beforeprint", () => all("img").forEach((image) => { image.loading = "eager"; }));
  addEventListener("hashchange", openTab);
  addEventListener("load", () => {
    openTab(); // after the browser has scrolled
    kept.push(...pictures().map((src) => Object.assign(new Image(), { src }))); // print does not wait for those of other tabs
  });
  document.addEventListener("keydown", keys);
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("[data-explore]");
    if (!link) return;
    explore();
    const [dataset, architecture] = link.dataset.explore.split(" "), made = await host, of = made.meta.runs.filter((run) => run.dataset === dataset && run.architecture === architecture);
    made.select({ dataset, architectures: [architecture], setups: [...new Set(of.map((run) => run.setup))], seeds: [...new Set(of.map((run) => run.seed))], image: made.meta.datasets[dataset].recorded[0] });
  });
});
