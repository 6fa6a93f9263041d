// What is looked at first.

import { callsTable } from "./calls.js";
import { element, setText } from "./format.js";
import { claimersTable, eventsTable, linksTable, routersTable } from "./links.js";
import { store } from "./store.js";

/** @param {HTMLElement} view */
export function overview(view) {
  const sentence = element("h1", { "aria-live": "polite" }, "Connecting to the server.");
  const calls = callsTable();
  const links = linksTable();
  const routers = routersTable();
  const claimers = claimersTable();
  const events = eventsTable("Events", () => true);
  view.replaceChildren(
    sentence,
    element("div", { class: "columns" },
      element("section", {}, element("h2", {}, "Calls"), calls.caption, calls.box, calls.legend),
      element("div", { class: "side" },
        element("section", {}, element("h2", {}, "Routers"), routers.box),
        element("section", {}, element("h2", {}, "Links, by what calls have of their budget"), links.box),
        element("section", {}, element("h2", {}, "EF without a call"), claimers.caption, claimers.box),
        element("section", {}, element("h2", {}, "Last events"), events.box))),
  );
  document.title = "Voicelane";
  return function show() {
    if (store.parts.sentence === undefined) return;
    setText(sentence, store.parts.sentence);
    for (const part of [calls, links, routers, claimers, events]) part.show();
  };
}
