// Words and numbers as people read them, and elements.

/** @typedef {import("./store.js").Call} Call */

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/**
 * A time of day, after its day if that is another than today.
 * @param {string | number} unixMs
 */
export function time(unixMs) {
  const at = new Date(Number(unixMs));
  const today = DAY.format(at) === DAY.format(new Date());
  return today ? TIME.format(at) : `${DAY.format(at)} ${TIME.format(at)}`;
}

/**
 * Bit/s: "80 kbit/s".
 * @param {string | number} bps
 */
export function rate(bps) {
  const value = Number(bps);
  for (const [unit, name] of /** @type {[number, string][]} */ ([[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"]])) {
    if (value >= unit) return `${Math.round((value / unit) * 100) / 100} ${name}`;
  }
  return `${value} bit/s`;
}

/**
 * A proto enum's name as a word: "ROUTER_STATE_AWAY" is "away".
 * @param {string} name
 * @param {string} prefix
 */
export function word(name, prefix) {
  return name.replace(prefix, "").toLowerCase().replaceAll("_", " ");
}

/**
 * The address of a call's page.
 * @param {{agentId: string, sessionId: string}} key
 */
export function callHref(key) {
  return `#/call/${encodeURIComponent(key.agentId)}/${encodeURIComponent(key.sessionId)}`;
}

/**
 * A name for a shell.
 * @param {string} text
 */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * An element with properties and children. Text is never read as HTML.
 * @param {string} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/**
 * Sets a text only where it differs, so that nothing is laid out or read out again.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @type {Record<string, [string, string]>} */
const VERDICTS = {
  VERDICT_OK: ["ok", "✓"],
  VERDICT_BROKEN: ["bad", "✗"],
  VERDICT_UNKNOWN: ["", "?"],
};

/**
 * In percent, with tenths where it is less than ten.
 * @param {number} lost
 * @param {number} packets
 */
function share(lost, packets) {
  const percent = (lost * 100) / Math.max(packets, 1);
  return `${percent.toFixed(percent < 9.95 ? 1 : 0)}%`;
}

/** What a strip's cells say. */
export const LEGEND = "Way: before router A, in it, between, in router B, after it. " +
  "✓ nothing lost, or the router has the call; a share such as 0.4%: lost of the last 256 packets; " +
  "✗ 1 % or more lost, or broken; ? no loss told.";

/**
 * The five parts of a call's way, a cell each.
 * @param {Call["segments"]} segments
 */
export function strip(segments) {
  const list = element("ul", { class: "strip" });
  for (const { verdict, name, text, lost, packets } of segments) {
    let [kind, sign] = VERDICTS[verdict] ?? VERDICTS.VERDICT_UNKNOWN;
    if (Number(lost ?? 0) > 0) {
      if (kind !== "bad") [kind, sign] = ["some", ""];
      sign += share(Number(lost), Number(packets));
    }
    const said = `${name}: ${text}`;
    list.append(element("li", kind ? { class: kind, title: said } : { title: said },
      element("span", { "aria-hidden": "true" }, sign), element("span", { class: "hidden" }, said)));
  }
  return list;
}

/**
 * What is wrong with a call, and since when.
 * @param {Call} call
 */
export function wrong({ badness, why, wrongSinceUnixMs }) {
  const since = wrongSinceUnixMs ? ` since ${time(wrongSinceUnixMs)}` : "";
  if (badness > 0) return element("span", { class: "bad" }, why + since);
  if (since) return element("span", {}, `less than 1 % is lost${since}`);
  return element("span", { class: "quiet" }, "no trouble told");
}

/**
 * A verdict as a word in its colour.
 * @param {string} verdict
 */
export function verdict(verdict) {
  const [kind] = VERDICTS[verdict] ?? VERDICTS.VERDICT_UNKNOWN;
  return element("strong", { class: kind || "quiet" }, word(verdict, "VERDICT_"));
}

/** @typedef {{box: HTMLElement, body: HTMLTableSectionElement, kinds: string[]}} Table */

/** @param {string} kind */
function classes(kind) {
  return /** @type {Record<string, string>} */ (kind ? { class: kind } : {});
}

/**
 * A table in a box of its own that scrolls, also by keyboard.
 * @param {string} label
 * @param {(string | [string, string] | HTMLElement)[]} header a column's name, and its class
 * @returns {Table}
 */
export function table(label, header) {
  const kinds = header.map((cell) => (cell instanceof HTMLElement ? cell.className : Array.isArray(cell) ? cell[1] : ""));
  const cells = header.map((cell, index) => (cell instanceof HTMLElement ? cell :
    element("th", { scope: "col", ...classes(kinds[index]) }, Array.isArray(cell) ? cell[0] : cell)));
  const body = /** @type {HTMLTableSectionElement} */ (element("tbody"));
  const box = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    element("table", { "aria-label": label }, element("thead", {}, element("tr", {}, ...cells)), body));
  return { box, body, kinds };
}

/**
 * Makes a table's rows those of the items, and touches only what differs.
 * @template T
 * @param {Table} table
 * @param {T[]} items
 * @param {(item: T) => string} id
 * @param {(item: T) => (Node | string)[]} cells first a heading of the row
 */
export function fill({ body, kinds }, items, id, cells) {
  /** @type {Map<string, HTMLTableRowElement>} */
  const rows = new Map();
  const ids = new Set(items.map(id));
  // Before the others are looked at: a row that stays in its place is not moved, and keeps its focus.
  for (const row of [...body.rows]) {
    const key = row.dataset.id ?? "";
    if (ids.has(key)) rows.set(key, row);
    else row.remove();
  }
  let at = body.firstElementChild;
  for (const item of items) {
    const key = id(item);
    const state = JSON.stringify(item);
    let row = rows.get(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.id = key;
    }
    const known = /** @type {HTMLTableRowElement & {shown?: string}} */ (row);
    if (known.shown !== state) {
      const focused = row.contains(document.activeElement);
      row.replaceChildren(...cells(item).map((cell, index) => {
        const attributes = classes(kinds[index]);
        return index === 0 ? element("th", { scope: "row", ...attributes }, cell) : element("td", attributes, cell);
      }));
      if (focused) row.querySelector("a")?.focus();
      known.shown = state;
    }
    if (row === at) {
      at = at.nextElementSibling;
    } else {
      body.insertBefore(row, at);
    }
  }
}
