// Ten thousand calls, two hundred of which come and go a second: the browser's frames, and the server.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { browse, Server } from "./lab.mjs";

const CALLS = 10_000;
const MEASURED_MS = 15_000;
/** A clock tick of /proc, ms. */
const TICK_MS = 10;

/** The processor time of a process so far, ms. */
async function cpu(pid) {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

async function busy(server) {
  const [began, since] = [await cpu(server.child.pid), performance.now()];
  await new Promise((done) => setTimeout(done, MEASURED_MS));
  return ((await cpu(server.child.pid)) - began) / (performance.now() - since);
}

test("ten thousand live calls do not make the page stutter", async (context) => {
  const server = await Server.start(CALLS);
  const browser = await browse();
  try {
    await server.tell("churn 200");
    const unseen = await busy(server);
    await browser.page.goto(server.url);
    await browser.page.locator("h1", { hasText: /10\d\d\d calls/ }).waitFor();
    const frames = browser.page.evaluate((ms) => new Promise((done) => {
      const took = [];
      const began = performance.now();
      let last = began;
      const frame = (now) => {
        took.push(now - last);
        last = now;
        if (now - began < ms) requestAnimationFrame(frame);
        else done(took.slice(1).sort((a, b) => a - b));
      };
      requestAnimationFrame(frame);
    }), MEASURED_MS);
    const seen = await busy(server);
    const took = await frames;
    const at = (part) => took[Math.floor(part * (took.length - 1))].toFixed(1);
    const size = await browser.page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
    context.diagnostic(`frames: ${took.length}; ms p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}; heap ${Math.round(size / 1e6)} MB`);
    context.diagnostic(`server, of a core: ${(unseen * 100).toFixed(1)} % with nobody looking, ${(seen * 100).toFixed(1)} % with a page`);
    assert.equal(await browser.page.locator("table[aria-label=Calls] tbody tr").count(), 200);
    assert.deepEqual(browser.complaints, []);
  } finally {
    await browser.close();
    await server.stop();
  }
});
