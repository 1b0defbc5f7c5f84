// The health card: what the rules over a run's history say, stage by stage.

const WORSE = ["bad", "warn", "ok", "none"];
const SIGNS = { bad: "✕", warn: "!", ok: "✓", none: "·" };

function health(place, host) {
  const body = make("div", { class: "ix-cards" });
  place.append(body, make("p", { class: "ix-note", text: "✓ nothing found, ! found in an earlier stage or less serious, ✕ found in the newest stage, · not applicable. The sentences describe the stage at the cursor; a click on a sign moves the cursor to its stage." }));
  const opened = new Set();
  const redraw = host.redrawer(place, async () => {
    const runs = someRuns(host, TILES), { meta } = host;
    const found = await host.gather("health", runs);
    const stage = Math.max(1, Math.min(meta.stages, Math.ceil(cursorStep(host) * meta.stages / meta.steps)));
    const key = JSON.stringify([runs.map((run) => run.name), stage]);
    if (body.dataset.key === key) return;
    body.dataset.key = key;
    body.replaceChildren(...runs.map((run, k) => cardOf(run, found[k], stage)));
  });
  function cardOf(run, { findings, headline, level }, stage) {
    const rules = [...new Map(findings.map((one) => [one.rule, one.title]))];
    const at = (rule, s) => findings.find((one) => one.rule === rule && one.stage === s);
    const sign = (rule, s) => {
      const one = at(rule, s) || { level: "none", sentence: "" };
      return make("td", { class: s === stage ? "ix-now" : "" }, make("button", {
        type: "button", class: `ix-sign ix-${one.level}`, text: SIGNS[one.level], title: `${one.sentence} ${one.evidence || ""}`,
        "aria-label": `${one.title}, stage ${s}: ${one.level}`,
        onclick: () => host.select({ step: Math.round(s * host.meta.steps / host.meta.stages), hover: null }),
      }));
    };
    const stages = host.meta.widths.map((_, s) => s + 1);
    const wrong = findings.filter((one) => one.stage === stage && ["bad", "warn"].includes(one.level));
    const worst = stages.map((s) => WORSE.find((one) => findings.some((f) => f.stage === s && f.level === one)));
    const details = make("details", { open: opened.has(run.name), ontoggle: () => (details.open ? opened.add(run.name) : opened.delete(run.name)) },
      make("summary", {}, ...worst.map((one, s) => make("i", { class: `ix-sign ix-${one}${s + 1 === stage ? " ix-now" : ""}`, text: SIGNS[one], title: `stage ${s + 1}` })),
        make("b", { text: ` ${nameOf(host, run)}: `, class: `ix-level-${level}` }), headline),
      make("table", { class: "ix-rules" },
        make("tr", {}, make("th", { text: "stage" }), ...stages.map((s) => make("th", { text: String(s) }))),
        ...rules.map(([rule, title]) => make("tr", {}, make("th", { text: title }), ...stages.map((s) => sign(rule, s))))));
    const sentences = wrong.sort((a, b) => WORSE.indexOf(a.level) - WORSE.indexOf(b.level)).map((one) => make("p", { class: `ix-finding ix-${one.level}` },
      make("b", { text: `Stage ${one.stage}: ${one.sentence} ` }), one.evidence, make("br"), make("span", { class: "ix-advice", text: one.advice })));
    return make("div", { class: "ix-card" }, details, ...sentences);
  }
  host.on("selection", redraw);
  redraw();
}
