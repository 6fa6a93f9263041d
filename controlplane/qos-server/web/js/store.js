// What the server has told, and who wants to know when it changes.

/** @typedef {{agentId: string, sessionId: string}} Key */
/** @typedef {{verdict: string, name: string, text: string, lost?: string | null, packets?: string}} Segment */
/**
 * @typedef {object} Call
 * @property {Key} key
 * @property {string} correlationId
 * @property {string} state
 * @property {number} badness
 * @property {string} why
 * @property {Segment[]} segments
 * @property {string} source
 * @property {string} destination
 * @property {number} flows
 * @property {string} serviceClass
 * @property {number} priority
 * @property {string} sinceUnixMs
 * @property {string | null} [wrongSinceUnixMs]
 */
/** @typedef {{routerId: string, port: string, direction: string, budgetBps: string, admittedBps: string, sessions: string}} Link */
/** @typedef {{routerId: string, state: string, sinceUnixMs: string, sessions: string, softwareVersion: string, detail: string}} Router */
/** @typedef {{routerId: string, interface: string, address: string, packets: string}} Claimer */
/** @typedef {{sequence: string, atUnixMs: string, severity: string, kind: string, session: Key | null, routerId: string, text: string, leftOut: string}} Happened */
/** @typedef {{sentence: string, total: string, bad: string, found: string, links: Link[], totalLinks: string, routers: Router[], totalRouters: string, events: Happened[], efClaimers: Claimer[], totalEfClaimers: string, serverEpoch: string}} Parts */
/** @typedef {{parts: Partial<Parts>, order?: string[], calls: Record<string, Call>}} Told */

export const store = {
  /** @type {Partial<Parts>} */
  parts: {},
  /** The calls that are shown, by their ids. @type {Map<string, Call>} */
  calls: new Map(),
  /** Their ids, the worst first. @type {string[]} */
  order: [],
  search: "",
  /** Whether the server answers. */
  connected: false,
};

/** @type {Set<() => void>} */
const watchers = new Set();
let due = false;

/**
 * Calls back after changes, at most once a frame.
 * @param {() => void} watcher
 */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

export function changed() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    for (const watcher of watchers) watcher();
  });
}

/**
 * Takes a snapshot, or what differs from what was told before.
 * @param {Told} told
 * @param {boolean} whole
 */
export function take(told, whole) {
  if (whole) {
    store.parts = told.parts;
    store.calls.clear();
  } else {
    Object.assign(store.parts, told.parts);
  }
  for (const [id, call] of Object.entries(told.calls)) store.calls.set(id, call);
  if (told.order) {
    store.order = told.order;
    const shown = new Set(told.order);
    for (const id of store.calls.keys()) if (!shown.has(id)) store.calls.delete(id);
  }
  changed();
}
