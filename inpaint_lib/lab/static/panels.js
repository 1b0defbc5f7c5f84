// The list of panels, the page's layout, and how it is put in place.

const MAIN = [["Curves", "curves"], ["Fills and D's maps", "fills"]];
// [key, title, function's name, whether it needs networks]
const TABS = [
  ["health", "Health", "health"],
  ["game", "Game", "game"],
  ["gradient", "D's gradient", "gradient"],
  ["attention", "Attention", "attention", true],
  ["matrix", "Stages × widths", "matrix"],
  ["scatter", "Images", "scatter"],
  ["wipe", "Wipe", "wipe"],
  ["painter", "Painter", "painter", true],
];
const PANELS = {};
if (typeof curves === "function") PANELS.curves = curves;
if (typeof fills === "function") PANELS.fills = fills;
if (typeof health === "function") PANELS.health = health;
if (typeof game === "function") PANELS.game = game;
if (typeof gradient === "function") PANELS.gradient = gradient;
if (typeof attention === "function") PANELS.attention = attention;
if (typeof matrix === "function") PANELS.matrix = matrix;
if (typeof scatter === "function") PANELS.scatter = scatter;
if (typeof wipe === "function") PANELS.wipe = wipe;
if (typeof painter === "function") PANELS.painter = painter;

// put the explorer of a host into an element; reopen(study) shows another one
function mount(root, host, reopen) {
  const head = make("div", { class: "ix-head" }), line = make("div", { class: "ix-line" });
  const main = make("div", { class: "ix-main" }), bar = make("div", { class: "ix-tabs", role: "tablist" });
  const below = make("div", { class: "ix-below" });
  root.replaceChildren(head, line, main, bar, below);
  root.className = "ix";
  root.tabIndex = 0;
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's keys
  root.host = host; // for tests
  chooser(head, host, reopen);
  keys(root, host, timeLine(line, host));
  for (const [title, name] of MAIN) {
    if (!PANELS[name]) continue;
    const place = make("section", { class: `ix-panel ix-panel-${name}`, "aria-label": title });
    main.append(place);
    PANELS[name](place, host);
  }
  const tabs = TABS.filter(([, , name, networks]) => PANELS[name] && (!networks || host.live));
  const opened = {};
  const buttons = tabs.map(([key, title]) => make("button", {
    type: "button", role: "tab", text: title, "data-tab": key, onclick: () => host.select({ tab: key }),
  }));
  bar.append(...buttons);
  function open() {
    const current = host.selection.tab || (tabs[0] || [])[0];
    tabs.forEach(([key, title, name], k) => {
      buttons[k].setAttribute("aria-selected", String(key === current));
      if (key === current && !opened[key]) { // a panel is drawn when it is first looked at
        opened[key] = make("section", { class: `ix-panel ix-panel-${key}`, role: "tabpanel", "aria-label": title });
        below.append(opened[key]);
        PANELS[name](opened[key], host);
      }
      if (opened[key]) opened[key].hidden = key !== current;
    });
  }
  host.on("selection", (_, changed) => changed.includes("tab") && open());
  open();
}

// anywidget's view of a widget
function render({ model, el }) {
  const request = overMessages(model), root = make("div", {});
  el.append(root);
  const start = (meta) => mount(root, makeHost(meta, request, true), async (study) => {
    try {
      start(await request("open", { study }));
    } catch (error) {
      say(root, error.message);
    }
  });
  start(model.get("meta"));
}
