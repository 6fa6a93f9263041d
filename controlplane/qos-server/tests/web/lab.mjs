// A server with two scripted routers, and a browser that looks at its page.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../../../", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const program = process.env.VOICELANE_SHOW ?? join(target, "debug/examples/show");

/** A port that is free now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}

/** The program `show`, with so many calls. */
export class Server {
  static async start(calls, port = 0) {
    const it = new Server();
    it.child = spawn(program, [`127.0.0.1:${port}`, String(calls)], { stdio: ["pipe", "pipe", "inherit"] });
    it.lines = createInterface({ input: it.child.stdout })[Symbol.asyncIterator]();
    it.url = (await it.lines.next()).value;
    return it;
  }

  async tell(command) {
    this.child.stdin.write(`${command}\n`);
    const { value } = await this.lines.next();
    if (value !== "done") throw new Error(`${command}: ${value}`);
  }

  async stop() {
    if (this.child.exitCode !== null) return;
    const gone = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await gone;
  }
}

/** Chromium with a user of its own. */
export async function browse(options = {}) {
  const folder = await mkdtemp(join(tmpdir(), "voicelane-web-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-lcd-text", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    viewport: { width: 1120, height: 560 },
    ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(30_000);
  /** What the page complained about. @type {string[]} */
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // The browser says so itself of a server that is away.
    if (message.type() === "error" && !/ERR_|Failed to load resource/.test(message.text())) complaints.push(message.text());
  });
  return {
    page,
    complaints,
    async close() {
      await context.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
