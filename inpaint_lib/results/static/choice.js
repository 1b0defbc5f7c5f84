// What is chosen: study, data set, architectures, setups, seeds, image and hole.

function chooser(place, host, reopen) {
  const { meta } = host;
  const lost = Object.keys(meta.lacks).filter((name) => name.startsWith("what_if/"));
  const runs = Object.keys(meta.lacks).map((name) => name.split("/")).filter((parts) => parts.length === 4); // not outputs made elsewhere
  const absent = runs.map(([dataset, architecture, setup, seed]) => {
    return { dataset, architecture, setup, seed: Number(seed.slice(4)) };
  }); // can be chosen too, and then the reason is given
  const distinct = (key, runs) => [...new Set(runs.map((run) => run[key]))];
  const study = choice("study", meta.studies, meta.opened, reopen);
  const dataset = choice("data", distinct("dataset", meta.runs).map((name) => [name, name]), host.selection.dataset,
    (value) => host.select({ dataset: value, image: meta.datasets[value].recorded[0] }));
  const image = make("input", { type: "number", min: "0", step: "1", "aria-label": "test image",
    oninput: () => image.value === "" || show(Number(image.value)) });
  const recorded = make("select", { "aria-label": "recorded images", onchange: () => show(Number(recorded.value)) });
  const width = choice("hole", meta.widths.map((w) => [w, `${w} px`]), host.selection.width,
    (value) => host.select({ width: Number(value) }));
  const lacking = make("p", { class: "ix-lacks" });
  const pills = ["architectures", "setups", "seeds"].map((key) => pillsOf(host, key, distinct(key.slice(0, -1), [...meta.runs, ...absent])));
  place.append(
    make("div", { class: "ix-row" }, meta.studies.length > 1 ? study.around : null, dataset.around,
      host.live ? make("label", { class: "ix-field" }, make("span", { text: "test image" }), image) : null,
      make("label", { class: "ix-field" }, make("span", { text: host.live ? "recorded" : "recorded image" }), recorded), width.around),
    make("div", { class: "ix-row" }, ...pills.map(({ around }) => around)), lacking);

  function show(number) {
    const last = host.dataset().images - 1;
    host.select({ image: Math.max(0, Math.min(last, Math.round(number) || 0)) });
  }
  function redraw() {
    const { selection } = host, found = host.dataset();
    image.max = String(found.images - 1);
    image.value = String(selection.image);
    image.disabled = !host.live;
    const there = found.recorded.includes(selection.image);
    refill(recorded, [...(there ? [] : [["", "–"]]), ...found.recorded.map((k) => [k, String(k)])],
      there ? selection.image : "");
    width.select.value = String(selection.width);
    dataset.select.value = selection.dataset;
    pills.forEach(({ update }) => update());
    lacking.textContent = lacks(host) + lost.map((name) => ` ${name}: ${meta.lacks[name]}.`).join("");
  }
  host.on("selection", redraw);
  redraw();
}

// buttons of which any number is chosen
function pillsOf(host, key, options) {
  const kind = key.slice(0, -1);
  const buttons = options.map((option) => make("button", {
    type: "button", class: "ix-pill", text: String(option), title: titleOf(option),
    onclick: () => {
      const now = host.selection[key];
      const next = now.includes(option) ? now.filter((one) => one !== option) : options.filter((one) => one === option || now.includes(one));
      host.select({ [key]: next });
    },
  }));
  if (key === "setups") buttons.forEach((button, k) => button.prepend(make("i", { style: `background:${(host.meta.setups[options[k]] || {}).colour}` })));
  const all = make("button", { type: "button", class: "ix-pill ix-all", text: "all", onclick: () => host.select({ [key]: options.slice() }) });
  function titleOf(option) { return (kind === "setup" && (host.meta.setups[option] || {}).about) || ""; }
  return {
    around: make("div", { class: "ix-pills", role: "group", "aria-label": key },
      make("span", { text: key }), ...buttons, options.length > 2 ? all : null),
    update() {
      buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(host.selection[key].includes(options[k]))));
    },
  };
}

// the chosen combinations that have no finished run, with the reason
function lacks(host) {
  const { dataset, architectures, setups, seeds } = host.selection, there = new Set(host.chosen().map((run) => run.name));
  const missing = [];
  for (const a of architectures) for (const s of setups) for (const k of seeds) {
    const name = `${dataset}/${a}/${s}/seed${k}`;
    if (!there.has(name) && !(s.startsWith("what_if/"))) missing.push(`${a} ${s} seed ${k} (${host.meta.lacks[name] || "not in the grid"})`);
  }
  const first = missing.slice(0, 2).join(", "), more = missing.length > 2 ? ` and ${missing.length - 2} more` : "";
  const count = `${there.size} ${there.size === 1 ? "run" : "runs"} chosen.`;
  return missing.length ? `${count} Not shown: ${first}${more}.` : count;
}
