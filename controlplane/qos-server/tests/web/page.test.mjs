// The page in Chromium: what is seen first, a search, a call, keys, colours, a server and a router lost
// and back.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { browse, freePort, Server } from "./lab.mjs";

const axePath = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const pictures = process.env.VOICELANE_PICTURES;

let server;
let browser;
let page;

before(async () => {
  server = await Server.start(40);
  browser = await browse();
  page = browser.page;
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const sentence = () => page.locator("h1");
const calls = () => page.locator("table[aria-label=Calls] tbody tr");

async function says(locator, pattern) {
  await locator.filter({ hasText: pattern }).first().waitFor();
}

/** No rule of accessibility is broken. */
async function accessible() {
  // The page's own policy forbids scripts that are written into it, not those of the debugger.
  const { readFile } = await import("node:fs/promises");
  await page.evaluate(await readFile(axePath, "utf8"));
  const { violations } = await page.evaluate(async () => {
    // Contrast with a gradient cannot be judged.
    const boxes = [...document.querySelectorAll(".scroll")].map((it) => it.style);
    for (const style of boxes) style.background = "none";
    const found = await globalThis.axe.run();
    for (const style of boxes) style.background = "";
    return found;
  });
  assert.deepEqual(violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).slice(0, 3)}`), []);
}

async function picture(name) {
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  const path = join(pictures, `${name}.png`);
  await page.evaluate(() => globalThis.scrollTo(0, 0));
  await page.screenshot({ path });
  const { size } = await stat(path);
  assert.ok(size < 150_000, `${name}.png has ${size} bytes`);
}

test("the first screen says how all stands, then calls, links, routers and events", async () => {
  await page.goto(server.url);
  await says(sentence(), "40 calls; none is known to be bad.");
  assert.equal(await calls().count(), 40);
  const row = calls().first();
  assert.equal(await row.locator(".strip li").count(), 5);
  assert.deepEqual(await row.locator(".strip .hidden").allTextContents(), [
    "before: no loss told", "in a: router a has the call", "between: no loss told",
    "in b: router b has the call", "after: no loss told"]);
  assert.equal(await page.locator("table[aria-label=Links] tbody tr").count(), 4);
  await says(page.locator("table[aria-label=Routers] tbody tr"), /^a\s*synchronised/);
  await server.tell("refuse bad-call");
  await says(page.locator("table[aria-label=Events] tbody tr").first(), /warning\s*call bad-call\s*refused: /);
  await says(page.locator("#connection"), "live");
  await accessible();
});

test("tables scroll by themselves, the page ends with its content", async () => {
  const usual = page.viewportSize();
  await page.setViewportSize({ width: 1400, height: 560 });
  const [all, end] = await page.evaluate(() => [
    document.documentElement.scrollHeight,
    Math.ceil(document.querySelector("body").getBoundingClientRect().bottom + globalThis.scrollY),
  ]);
  await page.setViewportSize(usual);
  assert.ok(all <= Math.max(end, 560), `the page goes on for ${all} pixels, its content for ${end}`);
});

test("who sends EF without a call has a place of its own", async () => {
  const section = page.locator("section", { has: page.locator("h2", { hasText: "EF without a call" }) });
  await says(section.locator("p"), /^Nobody in the last 40 s\.$/);
  await server.tell("claim 10.1.0.99 500");
  await server.tell("claim 10.1.0.98 5000");
  await says(section.locator("p"), "2 in the last 40 s. It is sent on without priority.");
  assert.deepEqual(await section.locator("tbody tr").allInnerTexts(), ["10.1.0.98\ta lan0\t5000", "10.1.0.99\ta lan0\t500"]);
  await accessible();
});

test("a click on a column's head sorts by it", async () => {
  const head = page.locator("th", { hasText: "Call" }).first();
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "ascending");
  assert.match(await calls().first().innerText(), /^call-00000/);
  await head.getByRole("button").click();
  assert.equal(await head.getAttribute("aria-sort"), "descending");
  assert.match(await calls().first().innerText(), /^call-00039/);
  await page.locator("th", { hasText: "Wrong" }).getByRole("button").click();
});

test("rows that stay are not moved, and keep the focus", async () => {
  const moved = await page.evaluate(async () => {
    const { element, fill, table } = await import("/js/format.js");
    const rows = table("Test", ["Name"]);
    const { box, body } = rows;
    document.body.append(box);
    const show = (/** @type {string[]} */ names) =>
      fill(rows, names, (it) => it, (it) => [element("a", { href: "#/" }, it)]);
    show(["a", "b", "c", "d"]);
    body.querySelectorAll("a")[2].focus();
    const observer = new MutationObserver(() => {});
    observer.observe(body, { childList: true });
    show(["b", "c", "e", "d"]);
    const records = observer.takeRecords();
    const focused = document.activeElement?.textContent;
    const shown = body.innerText.split(/\s+/).join("");
    box.remove();
    return { focused, shown, records: records.length };
  });
  // One row goes, one comes.
  assert.deepEqual(moved, { focused: "c", shown: "bced", records: 2 });
});

test("a router that is lost shows at once, and so does that it is back", async () => {
  await server.tell("cut a");
  await says(sentence(), "40 calls; 40 bad (40: router a is away).");
  await says(page.locator("table[aria-label=Routers] tbody tr").first(), /^a\s*away/);
  await says(page.locator("table[aria-label=Events] tbody tr").first(), /error\s*router a\s*lost, with 40 calls/);
  assert.equal(await calls().first().locator(".strip li.bad").count(), 1);
  await accessible();
  await picture("overview");
  await server.tell("attach a");
  await says(sentence(), "40 calls; none is known to be bad.");
  await says(page.locator("table[aria-label=Events] tbody"), "synchronised: ");
});

test("a call is found, opened and explained by keys alone", async () => {
  await page.keyboard.press("/");
  await page.keyboard.type("00017@atlanta");
  await says(page.locator("p"), "1 shown, the worst first, of 1 with “00017@atlanta”.");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await says(sentence(), "Call call-00017");
  await says(page.locator("table[aria-label=Chain] tbody tr"), /0\s*desired\s*ok/);
  await says(page.locator("pre"), "voicelane --agent test call explain call-00017");
  await says(page.locator("li"), "between: no loss told");
  await accessible();
  await page.keyboard.press("Escape");
  await says(page.locator("h2"), "Calls");
  await page.keyboard.press("/");
  await page.keyboard.press("Escape");
  await says(page.locator("p"), "of 40 in all");
});

test("a call's page draws its packets and says what holds", async () => {
  await page.goto(`${server.url}#/call/test/call-00000`);
  await says(page.locator("h1 + p"), /The call has its lane|Broken|unknown/);
  await page.locator(".uplot canvas").waitFor();
  await says(page.locator("table[aria-label=Seen] tbody tr"), /0 RTP\s*\d+\s*\d+/);
  const first = await page.locator("table[aria-label=Seen] td").first().innerText();
  await page.locator("table[aria-label=Seen] tbody tr").first().filter({ hasNotText: first }).waitFor();
  if (pictures) await page.waitForTimeout(7_000);
  await accessible();
  await picture("call");
});

test("a call that there is not is told", async () => {
  await page.goto(`${server.url}#/call/test/nobody%20%3Cb%3E`);
  await says(page.locator("h1"), "Call nobody <b>");
  await says(page.locator("h1 + p"), "session \"nobody <b>\" of agent \"test\" does not exist, or has ended; `voicelane call list`");
  await page.goto(`${server.url}#/`);
});

test("a call that loses packets is told with the place", async () => {
  await server.tell("trouble call-00007");
  await says(sentence(), "40 calls; 1 bad (1: packets are lost between routers a and b).");
  const row = calls().first();
  await says(row, /^call-00007/);
  await says(row.locator("td span.bad").first(), /^packets are lost between routers a and b since \d\d:\d\d:\d\d$/);
  await says(row.locator(".strip li.bad"), /^✗4\.7%between: \d+ of \d+ packets lost, flow 0/);
  await says(row.locator(".strip li.some"), /^0\.4%before: 1 of \d+ packets lost, flow 0/);
  await says(page.locator("table[aria-label=Events] tbody tr"), /warning\s*call call-00007\s*packets are lost between/);
  await page.goto(`${server.url}#/call/test/call-00007`);
  await says(page.locator("h1 ~ p span.bad"), /^packets are lost between routers a and b since \d\d:\d\d:\d\d$/);
  const lost = page.locator("table[aria-label=Loss] tbody tr").first();
  await says(lost, /^0\s*\d+\s*\d+ \(0\.\d\d %\)\s*0\s*\d+ \(4\.69 %\)\s*0\s*\?\s*1\.3 ms\s*1\.3 ms\s*\?\s*[34]\.\d of the last \d+/);
  await accessible();
  await page.goto(`${server.url}#/`);
});

test("dark mode has contrast, too", async () => {
  const dark = await browse({ colorScheme: "dark" });
  const light = page;
  page = dark.page;
  try {
    await page.goto(server.url);
    await says(sentence(), "40 calls");
    const back = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(back, "rgb(18, 23, 28)");
    await accessible();
    await picture("dark");
    assert.deepEqual(dark.complaints, []);
  } finally {
    page = light;
    await dark.close();
  }
});

test("a server that goes is told, and the page lives again when it is back", async () => {
  const port = await freePort();
  const other = await Server.start(3, port);
  await page.goto(other.url);
  await says(sentence(), "3 calls");
  await other.stop();
  await says(page.locator("#connection.lost"), "the server does not answer");
  await accessible();
  const back = await Server.start(5, port);
  try {
    await says(sentence(), "5 calls");
    await says(page.locator("#connection"), /^live$/);
    assert.equal(await calls().count(), 5);
  } finally {
    await back.stop();
  }
});

test("the page complained about nothing", () => {
  assert.deepEqual(browser.complaints, []);
});
