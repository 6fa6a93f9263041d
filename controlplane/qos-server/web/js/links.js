// Links, routers, who sends EF without a call, and events.

import { callHref, element, fill, rate, setText, table, time, word } from "./format.js";
import { store } from "./store.js";

/** @typedef {import("./store.js").Happened} Happened */

export function linksTable() {
  const rows = table("Links", ["Link", "Direction", ["Admitted", "number"], ["Budget", "number"], "Of budget", ["Calls", "number"]]);
  function show() {
    fill(rows, store.parts.links ?? [], (link) => `${link.routerId}/${link.direction}/${link.port}`, (link) => {
      const budget = Number(link.budgetBps);
      const taken = budget > 0 ? Number(link.admittedBps) / budget : 0;
      const percent = `${Math.round(taken * 100)} %`;
      const meter = element("meter", { min: "0", max: "1", high: "0.9", value: String(Math.min(taken, 1)), "aria-label": `${percent} of the budget` });
      return [
        `${link.routerId} ${link.port}`,
        word(link.direction, "DIRECTION_"),
        rate(link.admittedBps),
        budget > 0 ? rate(budget) : "unlimited",
        budget > 0 ? element("span", {}, meter, ` ${percent}`) : "",
        link.sessions,
      ];
    });
  }
  return { box: rows.box, show };
}

export function routersTable() {
  const rows = table("Routers", ["Router", "State", ["Since", "when"], ["Calls", "number"], "What is known"]);
  function show() {
    fill(rows, store.parts.routers ?? [], (router) => router.routerId, (router) => {
      const well = router.state === "ROUTER_STATE_SYNCHRONISED";
      return [
        router.routerId,
        element("span", { class: well ? "ok" : "bad" }, word(router.state, "ROUTER_STATE_")),
        time(router.sinceUnixMs),
        router.sessions,
        router.detail || (router.softwareVersion ? `version ${router.softwareVersion}` : ""),
      ];
    });
  }
  return { box: rows.box, show };
}

/** Who has sent EF without a call lately. */
export function claimersTable() {
  const caption = element("p", { class: "quiet" }, "Not known yet.");
  const rows = table("EF without a call", ["Sender", "Router", ["Packets in 10 s", "number"]]);
  function show() {
    const claimers = store.parts.efClaimers ?? [];
    const total = Number(store.parts.totalEfClaimers ?? 0);
    const first = total > claimers.length ? `, the first ${claimers.length}` : "";
    setText(caption, total ? `${total} in the last 40 s${first}. It is sent on without priority.` : "Nobody in the last 40 s.");
    rows.box.hidden = !total;
    fill(rows, claimers, (it) => `${it.routerId}/${it.interface}/${it.address}`, (it) => [
      it.address,
      `${it.routerId} ${it.interface}`,
      it.packets,
    ]);
  }
  return { caption, box: rows.box, show };
}

/** @type {Record<string, string>} */
const KINDS = { SEVERITY_ERROR: "bad", SEVERITY_WARNING: "warn" };

/**
 * @param {string} label
 * @param {(event: Happened) => boolean} wanted
 */
export function eventsTable(label, wanted) {
  const rows = table(label, [["Time", "when"], "Severity", "Subject", "What happened"]);
  function show() {
    const events = (store.parts.events ?? []).filter(wanted);
    fill(rows, events, (event) => event.sequence, (event) => {
      const left = Number(event.leftOut) > 0 ? ` (${event.leftOut} of the kind before it were left out)` : "";
      const call = event.session && element("a", { href: callHref(event.session) }, `call ${event.session.sessionId}`);
      return [
        time(event.atUnixMs),
        element("span", { class: KINDS[event.severity] ?? "quiet" }, word(event.severity, "SEVERITY_")),
        call || (event.routerId ? `router ${event.routerId}` : "server"),
        event.text + left,
      ];
    });
  }
  return { box: rows.box, show };
}
