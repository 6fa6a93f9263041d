// The server's stream, opened again when it ends.

import { changed, store, take } from "./store.js";

const AGAIN_AFTER_MS = 1000;
/** The server tells something every second; after so long without it, it is taken for lost. */
const SILENT_AFTER_MS = 15000;

/** @type {EventSource | null} */
let source = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** @param {boolean} connected */
function set(connected) {
  if (store.connected !== connected) {
    store.connected = connected;
    changed();
  }
}

function lost() {
  set(false);
  source?.close();
  clearTimeout(timer);
  timer = setTimeout(open, AGAIN_AFTER_MS);
}

function heard() {
  set(true);
  clearTimeout(timer);
  timer = setTimeout(lost, SILENT_AFTER_MS);
}

/** Opens the stream anew, for what is searched for now. */
export function open() {
  source?.close();
  clearTimeout(timer);
  const mine = new EventSource(`events?${new URLSearchParams({ search: store.search })}`);
  source = mine;
  timer = setTimeout(lost, SILENT_AFTER_MS);
  mine.addEventListener("snapshot", (event) => {
    heard();
    take(JSON.parse(event.data), true);
  });
  mine.addEventListener("change", (event) => {
    heard();
    take(JSON.parse(event.data), false);
  });
  mine.addEventListener("error", () => {
    if (source === mine) lost();
  });
}
