// Where data come from and what is chosen: the `host` of makeHost, which is all that panels use.

const ARRAYS = { uint8: Uint8Array, int8: Int8Array, int32: Int32Array, float32: Float32Array };

// put arrays {shape, data} where an answer says {buffer, shape, dtype}
function revived(value, buffers) {
  if (Array.isArray(value)) return value.map((part) => revived(part, buffers));
  if (value === null || typeof value !== "object") return value;
  if ("buffer" in value && "dtype" in value) {
    const view = buffers[value.buffer], kind = ARRAYS[value.dtype];
    const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    return { shape: value.shape, data: new kind(bytes) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, revived(part, buffers)]));
}

// request(kind, params, buffers) over an anywidget model's messages
function overMessages(model) {
  const waiting = new Map();
  let next = 1;
  model.on("msg:custom", (message, buffers) => {
    const call = waiting.get(message.id);
    if (!call) return; // of another view
    waiting.delete(message.id);
    if ("error" in message) call.reject(new Error(message.error));
    else call.resolve({ ...revived(message.answer, buffers || []), buffers: buffers || [] });
  });
  const session = Math.random().toString(36).slice(2); // another view of the same widget has its own
  return (kind, params, buffers) => new Promise((resolve, reject) => {
    const id = `${session}-${next++}`;
    waiting.set(id, { resolve, reject });
    model.send({ id, kind, params }, undefined, buffers || []);
  });
}

// the state that all panels share, and how they read and change it
function makeHost(meta, request, interactive) {
  const listeners = {}, cache = new Map();
  let busy = 0;
  const host = {
    meta, request, interactive,
    live: interactive && meta.live, // whether networks can be asked
    selection: firstSelection(meta),
    on(event, act) { (listeners[event] ||= []).push(act); },
    tell(event, ...what) { for (const act of listeners[event] || []) act(...what); },
    select(changes) {
      const changed = Object.keys(changes).filter((key) => host.selection[key] !== changes[key]);
      if (!changed.length) return;
      Object.assign(host.selection, changes);
      host.tell("selection", host.selection, changed);
    },
    chosen() {
      const { dataset, architectures, setups, seeds } = host.selection;
      return meta.runs.filter((run) => run.dataset === dataset && architectures.includes(run.architecture)
        && setups.includes(run.setup) && seeds.includes(run.seed));
    },
    dataset: () => meta.datasets[host.selection.dataset],
    // an answer about each of some runs: only those that are not here yet are asked for
    async gather(kind, runs, params = {}) {
      const key = (name) => `${kind} ${name} ${JSON.stringify(params)}`;
      const missing = runs.map((run) => run.name).filter((name) => !cache.has(key(name)));
      if (missing.length) {
        const answer = request(kind, { runs: missing, ...params });
        missing.forEach((name, k) => keep(key(name), answer.then((found) => found.runs[k])));
      }
      return Promise.all(runs.map((run) => cache.get(key(run.name))));
    },
    async ask(kind, params) {
      const key = `${kind} ${JSON.stringify(params)}`;
      if (!cache.has(key)) keep(key, request(kind, params));
      return cache.get(key);
    },
    // a function that redraws: while it works, later calls become one; a hidden panel waits for its tab
    redrawer(place, draw) {
      let working = false, again = false;
      return async function redraw() {
        if (place.closest(".ix-panel")?.hidden) return;
        if (working) { again = true; return; }
        working = true;
        busy++;
        do {
          again = false;
          try {
            await draw();
            place.classList.remove("ix-failed");
            say(place, "");
          } catch (error) {
            place.classList.add("ix-failed");
            say(place, error.message);
          }
        } while (again);
        working = false;
        if (!--busy) host.tell("settled");
      };
    },
    settled: () => new Promise((done) => (busy ? host.on("settled", done) : done())),
  };
  function keep(key, promise) {
    cache.set(key, promise);
    promise.catch(() => cache.delete(key)); // so that it is asked again
    if (cache.size > 2000) cache.delete(cache.keys().next().value);
  }
  return host;
}

// write a line in place of a panel's picture
function say(place, text) {
  let line = place.querySelector(":scope > .ix-message");
  if (!line) place.append((line = make("p", { class: "ix-message", role: "status" })));
  line.textContent = text || "";
}

// --- what is chosen at first: one architecture, the paper's setups, all seeds, the end of training

function firstSelection(meta) {
  if (!meta.runs.length) throw new Error("No run has finished: there is nothing to show.");
  const distinct = (key, runs) => [...new Set(runs.map((run) => run[key]))];
  const dataset = meta.runs[0].dataset, runs = meta.runs.filter((run) => run.dataset === dataset);
  const architectures = distinct("architecture", runs).slice(0, 1);
  const of = runs.filter((run) => run.architecture === architectures[0]);
  const setups = distinct("setup", of), main = setups.filter((name) => !(meta.setups[name] || {}).control);
  return {
    dataset, architectures, setups: main.length ? main : setups, seeds: distinct("seed", of),
    image: meta.datasets[dataset].recorded[0], width: meta.widths[meta.widths.length - 1],
    step: meta.steps, hover: null, playing: false, tab: "",
  };
}

// what a run is called beside the others that are chosen: [setup, the rest]
function wordsOf(host, run) {
  const { architectures, seeds } = host.selection, rest = [];
  if (architectures.length > 1) rest.push(run.architecture);
  if (seeds.length > 1) rest.push(`seed ${run.seed}`);
  return [run.setup, rest.join(" · ")];
}

const nameOf = (host, run) => wordsOf(host, run).filter(Boolean).join(" · ");

// the chosen runs, or a message; at most some, where more would not fit
function someRuns(host, most = Infinity) {
  const runs = host.chosen();
  if (!runs.length) throw new Error("No finished run matches this choice: choose other buttons above.");
  return runs.slice(0, most);
}

// the stage (first ..) whose end is nearest to the cursor
function stageOf(host, first = 1) {
  const { steps, stages } = host.meta;
  return Math.max(first, Math.min(stages, Math.round(cursorStep(host) * stages / steps)));
}

const colourOf = (host, run) => (host.meta.setups[run.setup] || { colour: "#999999" }).colour;
