// The list of panels, the page's layout, and how it is put in place.

const MAIN = [["Curves", "curves", curves], ["Fills and D's maps", "fills", fills]];
// [title, key, what fills it, whether it needs networks]
const TABS = [
  ["Health", "health", health], ["Game", "game", game], ["D's gradient", "gradient", gradient],
  ["Attention", "attention", attention, true], ["Stages × widths", "matrix", matrix], ["Images", "scatter", scatter],
  ["Wipe", "wipe", wipe], ["Painter", "painter", painter, true],
];

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
  for (const setup of Object.values(host.meta.setups)) setup.colour = visible(setup.colour, root);
  chooser(head, host, reopen);
  keys(root, host, timeLine(line, host));
  function add(parent, title, key, panel, role) {
    const place = make("section", { class: `ix-panel ix-panel-${key}`, "aria-label": title, role });
    parent.append(place);
    panel(place, host);
    return place;
  }
  for (const [title, key, panel] of MAIN) add(main, title, key, panel, "region");
  const paints = host.live || (host.interactive && host.meta.paints);
  const tabs = TABS.filter(([, key, , networks]) => (!networks || paints) && (host.interactive || key !== "gradient")); // a report has none
  const opened = {};
  const buttons = tabs.map(([title, key]) => make("button", {
    type: "button", role: "tab", text: title, "data-tab": key, onclick: () => host.select({ tab: key }),
  }));
  bar.append(...buttons);
  function open() {
    const current = host.selection.tab || tabs[0][1];
    tabs.forEach(([title, key, panel], k) => {
      buttons[k].setAttribute("aria-selected", String(key === current));
      if (opened[key]) opened[key].hidden = key !== current;
      else if (key === current) opened[key] = add(below, title, key, panel, "tabpanel"); // drawn when first looked at
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
