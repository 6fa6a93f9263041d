// The table of calls.

import { LEGEND, callHref, element, fill, setText, strip, table, time, word, wrong } from "./format.js";
import { store } from "./store.js";

/** @typedef {import("./store.js").Call} Call */

/** As people count: call-9 before call-10. */
const NAMES = new Intl.Collator("en", { numeric: true });

/** @type {[string, (call: Call) => string | number, boolean][]} what to sort by, and whether the greatest is first */
const COLUMNS = [
  ["Call", (call) => `${call.key.sessionId}\n${call.key.agentId}`, false],
  ["Wrong", (call) => call.badness, true],
  ["Way", () => 0, false],
  ["From", (call) => call.source, false],
  ["To", (call) => call.destination, false],
  ["State", (call) => call.state, false],
  ["Changed", (call) => Number(call.sinceUnixMs), true],
];

/** By what the table is sorted; none: as the server has it, the worst first. */
const sorted = { by: 1, descending: true };

export function callsTable() {
  const header = COLUMNS.map(([name], index) => {
    if (name === "Way") {
      return element("th", { scope: "col" }, element("abbr", { title: LEGEND }, "Way"));
    }
    const button = element("button", { type: "button" }, name);
    const cell = element("th", name === "Changed" ? { scope: "col", class: "when" } : { scope: "col" }, button);
    button.addEventListener("click", () => {
      sorted.descending = sorted.by === index ? !sorted.descending : COLUMNS[index][2];
      sorted.by = index;
      show();
    });
    return cell;
  });
  const caption = element("p", { class: "quiet" });
  const legend = element("p", { class: "quiet" }, LEGEND);
  const rows = table("Calls", header);

  function show() {
    header.forEach((cell, index) => {
      if (index === sorted.by) cell.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const found = Number(store.parts.found ?? 0);
    const what = store.search ? `${found} with “${store.search}”` : `${found} in all`;
    const order = sorted.by === 1 && sorted.descending ? "the worst first" : `by “${COLUMNS[sorted.by][0]}”`;
    setText(caption, store.order.length ? `${store.order.length} shown, ${order}, of ${what}.` : `None of ${what}.`);
    /** @type {Call[]} */
    const calls = [];
    for (const id of store.order) {
      const call = store.calls.get(id);
      if (call) calls.push(call);
    }
    const by = COLUMNS[sorted.by][1];
    const sign = sorted.descending ? -1 : 1;
    calls.sort((a, b) => {
      const [x, y] = [by(a), by(b)];
      return sign * (typeof x === "number" ? x - Number(y) : NAMES.compare(x, String(y)));
    });
    fill(rows, calls, (call) => `${call.key.agentId}\n${call.key.sessionId}`, (call) => [
      element("a", { href: callHref(call.key) }, call.key.sessionId),
      wrong(call),
      strip(call.segments),
      call.source || "not known",
      call.destination || "not known",
      word(call.state, "SESSION_STATE_"),
      time(call.sinceUnixMs),
    ]);
  }
  return { caption, box: rows.box, legend, show };
}
