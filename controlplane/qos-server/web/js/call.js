// A call's page: why it has its lane or not, and what is seen of it.

import { element, quoted, setText, strip, table, fill, verdict, word, wrong } from "./format.js";
import { eventsTable } from "./links.js";
import { store } from "./store.js";

/** @typedef {import("./store.js").Key} Key */
/** @typedef {{verdict: string, link: string, routerId: string, detail: string}} Step */
/** @typedef {{flowIndex: number, kind: string, packets: string, policedPackets: string, lastSeenMsAgo?: string | null, quality?: {jitterNs?: string | null} | null}} Counters */
/** @typedef {string | null | undefined} Count */
/** @typedef {{packets: string, beforeSource: Count, inSource: Count, between: Count, inDestination: Count, afterDestination: Count, reportedPackets: string}} Loss */
/** @typedef {{loss?: Loss | null, twoWayDelayNs?: Count, score?: {mos: number, packets: number} | null}} Heard */
/** @typedef {{flowIndex: number, steps: Step[], sourceCounters: Counters[], destinationCounters: Counters[]} & Heard} Flow */
/** @typedef {{session: any, flows: Flow[], firstBroken?: Step | null, firstUnknown?: Step | null}} Explanation */

const AGAIN_MS = 3000;
/** Points of the plot: about seven minutes, as an explanation takes a second. */
const POINTS = 100;

/** @param {Explanation} told */
function judged(told) {
  if (told.firstBroken) return `Broken: ${told.firstBroken.link}. ${told.firstBroken.detail}`;
  if (told.firstUnknown) return `Nothing is known to be broken, but “${told.firstUnknown.link}” is unknown. ${told.firstUnknown.detail}`;
  return "The call has its lane: every link holds.";
}

/**
 * Lost packets with their share: "3 (1.17 %)".
 * @param {Count} lost
 * @param {string} packets
 */
function share(lost, packets) {
  if (lost == null) return "?";
  if (lost === "0") return lost;
  const percent = (Number(lost) * 100) / Math.max(Number(packets), 1);
  return `${lost} (${percent < 0.01 ? "<0.01" : percent.toFixed(2)} %)`;
}

/**
 * Columns of numbers.
 * @param {...string} names
 * @returns {[string, string][]}
 */
function numbers(...names) {
  return names.map((name) => [name, "number"]);
}

/** @param {Count} ns */
function milliseconds(ns) {
  return ns == null ? "?" : `${(Number(ns) / 1e6).toFixed(1)} ms`;
}

/**
 * How a flow sounds, as a row.
 * @param {Flow} flow
 * @param {Loss} loss
 */
function heard({ flowIndex, sourceCounters, destinationCounters, twoWayDelayNs, score }, loss) {
  const jitter = [sourceCounters, destinationCounters].map((counters) =>
    milliseconds(counters.find((it) => it.kind === "FLOW_KIND_RTP")?.quality?.jitterNs));
  return [
    String(flowIndex), loss.packets,
    ...[loss.beforeSource, loss.inSource, loss.between, loss.inDestination].map((it) => share(it, loss.packets)),
    share(loss.afterDestination, loss.reportedPackets), ...jitter, milliseconds(twoWayDelayNs),
    score ? `${score.mos.toFixed(1)} of the last ${score.packets}` : "?",
  ];
}

/**
 * Packets a second of each flow at the router of its source, and of its destination.
 * @param {HTMLElement} box
 */
function plot(box) {
  /** @type {number[]} */
  const times = [];
  /** @type {Map<string, (number | null)[]>} */
  const series = new Map();
  /** @type {Map<string, [number, number]>} */
  const before = new Map();
  /** @type {any} */
  let chart = null;

  /** @param {Explanation} told */
  function add(told) {
    const now = Date.now() / 1000;
    times.push(now);
    const at = times.length - 1;
    for (const flow of told.flows) {
      for (const [place, counters] of /** @type {[string, Counters[]][]} */ ([["source", flow.sourceCounters], ["destination", flow.destinationCounters]])) {
        for (const it of counters) {
          if (it.kind !== "FLOW_KIND_RTP") continue;
          const name = `flow ${flow.flowIndex} at its ${place}'s router`;
          const packets = Number(it.packets);
          const last = before.get(name);
          before.set(name, [now, packets]);
          const rate = last && packets >= last[1] ? (packets - last[1]) / (now - last[0]) : null;
          const values = series.get(name) ?? new Array(at).fill(null);
          values[at] = rate;
          series.set(name, values);
        }
      }
    }
    for (const values of series.values()) while (values.length < times.length) values.push(null);
    if (times.length > POINTS) {
      times.shift();
      for (const values of series.values()) values.shift();
    }
    // A point alone has no rate.
    if (times.length < 2) return;
    const data = [times, ...series.values()];
    if (chart && chart.series.length === data.length) {
      chart.setData(data);
      return;
    }
    chart?.destroy();
    const style = getComputedStyle(document.body);
    const colours = ["--link", "--ok", "--warn", "--bad"].map((name) => style.getPropertyValue(name));
    const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--line") } };
    const uPlot = /** @type {any} */ (globalThis).uPlot;
    chart = new uPlot({
      width: Math.min(box.clientWidth || 800, 900), height: 200,
      scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, Math.max(high ?? 0, 10) * 1.1] } },
      axes: [axis, { ...axis, label: "packets/s" }],
      series: [{}, ...[...series.keys()].map((label, index) => ({ label, stroke: colours[index % 4], width: 2, dash: index >= 4 ? [4, 4] : [] }))],
    }, data, box);
  }
  return { add, destroy: () => chart?.destroy() };
}

/**
 * @param {HTMLElement} view
 * @param {Key} key
 */
export function callPage(view, key) {
  const id = `${key.agentId}\n${key.sessionId}`;
  const heading = element("h1", {}, `Call ${key.sessionId}`);
  const found = element("p", { "aria-live": "polite" }, "Asking the routers.");
  const trouble = element("p");
  const facts = element("p", { class: "quiet" });
  const steps = table("Chain", ["Flow", "Link", "Verdict", "Router", "What was found"]);
  const seen = table("Seen", ["Flow", ...numbers("Packets at A", "Packets at B", "Dropped by A", "Dropped by B")]);
  const loss = table("Loss", ["Flow", ...numbers("Compared", "Before A", "In A", "Between", "In B", "After B",
    "Jitter at A", "Jitter at B", "There and back", "MOS")]);
  const way = element("div");
  const plotted = element("div", { class: "plot" });
  const command = `voicelane --agent ${quoted(key.agentId)} call explain ${quoted(key.sessionId)}`;
  const copy = element("button", { type: "button" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      setText(copy, "Copied");
    } catch {
      setText(copy, "Select it and copy");
    }
  });
  const events = eventsTable("Events of this call", (event) =>
    event.session?.agentId === key.agentId && event.session.sessionId === key.sessionId);
  view.replaceChildren(
    element("p", {}, element("a", { href: "#/" }, "All calls")),
    heading, found, trouble, facts,
    element("section", {}, element("h2", {}, "Why"), steps.box),
    element("section", {}, element("h2", {}, "Loss, jitter and score by segment"), way, loss.box),
    element("section", {}, element("h2", {}, "Packets"), seen.box, plotted),
    element("section", {}, element("h2", {}, "Last events"), events.box),
    element("section", {}, element("h2", {}, "In a shell"), element("pre", { tabindex: "0" }, command), copy),
  );
  document.title = `${key.sessionId} · Voicelane`;
  const plotting = plot(plotted);
  let open = true;
  /** @type {Explanation | null} */
  let last = null;

  /** That the lane holds is no comfort where packets are lost. */
  function colour() {
    const bad = (store.calls.get(id)?.badness ?? 0) > 0;
    if (last) found.className = last.firstBroken ? "bad" : last.firstUnknown ? "warn" : bad ? "" : "ok";
  }

  /** @param {Explanation} told */
  function show(told) {
    last = told;
    setText(found, judged(told));
    colour();
    const spec = told.session?.spec;
    setText(facts, [
      `agent ${key.agentId}`, word(told.session?.state ?? "", "SESSION_STATE_"), `revision ${spec?.revision}`,
      spec?.correlationId && `Call-ID ${spec.correlationId}`,
      ...(spec?.flows ?? []).map((/** @type {any} */ flow, /** @type {number} */ index) => `flow ${index}: ${end(flow.source)} → ${end(flow.destination)}`),
    ].filter(Boolean).join(" · "));
    const rows = told.flows.flatMap((flow) => flow.steps.map((step) => ({ flow: flow.flowIndex, ...step })));
    fill(steps, rows, (row) => `${row.flow}/${row.link}/${row.routerId}`, (row) =>
      [String(row.flow), row.link, verdict(row.verdict), row.routerId, row.detail]);
    const measured = told.flows.flatMap((flow) => (flow.loss ? [{ flow, loss: flow.loss }] : []));
    fill(loss, measured, ({ flow }) => String(flow.flowIndex), ({ flow, loss }) => heard(flow, loss));
    const counted = told.flows.flatMap((flow) => {
      const kinds = new Set([...flow.sourceCounters, ...flow.destinationCounters].map((it) => it.kind));
      return [...kinds].map((kind) => ({ flow: flow.flowIndex, kind,
        a: flow.sourceCounters.find((it) => it.kind === kind), b: flow.destinationCounters.find((it) => it.kind === kind) }));
    });
    fill(seen, counted, (row) => `${row.flow}/${row.kind}`, (row) => [
      `${row.flow} ${word(row.kind, "FLOW_KIND_").toUpperCase()}`,
      row.a?.packets ?? "", row.b?.packets ?? "", row.a?.policedPackets ?? "", row.b?.policedPackets ?? "",
    ]);
    plotting.add(told);
  }

  async function ask() {
    while (open) {
      if (!document.hidden) {
        try {
          const answer = await fetch(`api/explain?${new URLSearchParams({ agent: key.agentId, session: key.sessionId })}`);
          if (!open) return;
          if (answer.ok) {
            show(await answer.json());
          } else {
            setText(found, await answer.text());
            found.className = "bad";
          }
        } catch {
          setText(found, "The server does not answer.");
          found.className = "bad";
        }
      }
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
  void ask();

  let shown = "";
  return {
    show() {
      events.show();
      const call = store.calls.get(id);
      const state = JSON.stringify([call?.segments, call?.why, call?.wrongSinceUnixMs]);
      if (state === shown) return;
      shown = state;
      colour();
      if (!call) {
        way.replaceChildren(element("p", { class: "quiet" }, "The call is not among those shown."));
        trouble.replaceChildren();
        return;
      }
      const parts = call.segments.map((it) => element("li", {}, `${it.name}: ${it.text}`));
      way.replaceChildren(strip(call.segments), element("ul", {}, ...parts));
      trouble.replaceChildren(wrong(call));
    },
    close() {
      open = false;
      plotting.destroy();
    },
  };
}

/** @param {{address: string, port: number} | null} at */
function end(at) {
  if (!at) return "not known";
  return at.address.includes(":") ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`;
}
