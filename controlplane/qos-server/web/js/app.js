// The page: which view is shown, what is searched for, keys.

import { callPage } from "./call.js";
import { open } from "./events.js";
import { setText } from "./format.js";
import { overview } from "./overview.js";
import { store, watch } from "./store.js";

const view = /** @type {HTMLElement} */ (document.getElementById("view"));
const search = /** @type {HTMLInputElement} */ (document.getElementById("search"));
const connection = /** @type {HTMLElement} */ (document.getElementById("connection"));

/** Waits for the end of typing, ms. */
const TYPED_MS = 200;

/** @type {() => void} */
let show = () => {};
/** @type {() => void} */
let close = () => {};

/**
 * The call that a page is of; none for the overview, and for what is no name.
 * @param {string} hash
 */
function named(hash) {
  const [, page, agent, session] = hash.split("/");
  if (page !== "call" || !agent || !session) return null;
  try {
    return { agentId: decodeURIComponent(agent), sessionId: decodeURIComponent(session) };
  } catch {
    return null;
  }
}

function route() {
  close();
  close = () => {};
  const key = named(location.hash);
  if (key) {
    ({ show, close } = callPage(view, key));
    // So that it is among the calls that are told.
    find(key.sessionId);
  } else {
    show = overview(view);
    find(search.value.trim());
  }
  show();
}

/** The longest search that the server takes, bytes of UTF-8. */
const MAX_SEARCH = 128;

/** @param {string} text */
function find(text) {
  while (new TextEncoder().encode(text).length > MAX_SEARCH) text = text.slice(0, -1);
  if (text === store.search) return;
  store.search = text;
  open();
}

watch(() => {
  setText(connection, store.connected ? "live" : "the server does not answer; trying again");
  connection.className = store.connected ? "" : "lost";
  show();
});

/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    if (location.hash.startsWith("#/call")) location.hash = "#/";
    else find(search.value.trim());
  }, TYPED_MS);
});
search.form?.addEventListener("submit", (event) => event.preventDefault());

/** @param {number} by */
function step(by) {
  const links = [...view.querySelectorAll("table[aria-label=Calls] tbody a")];
  const at = links.indexOf(/** @type {Element} */ (document.activeElement));
  const next = /** @type {HTMLElement | undefined} */ (links[at < 0 ? 0 : at + by]);
  next?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const types = event.target === search;
  if (event.key === "/" && !types) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape") {
    if (types && search.value) {
      search.value = "";
      search.dispatchEvent(new Event("input"));
    } else if (location.hash.startsWith("#/call")) {
      location.hash = "#/";
    }
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    // Elsewhere these keys scroll.
    const at = /** @type {Element} */ (event.target);
    const begins = at === document.body || at === view || at === search;
    if (location.hash.startsWith("#/call") || !(begins || at.matches("table[aria-label=Calls] tbody a"))) return;
    event.preventDefault();
    step(event.key === "ArrowDown" ? 1 : -1);
  }
});
addEventListener("hashchange", () => {
  route();
  view.focus();
});
route();
open();
