// The alert rules do what they say, the dashboard's expressions can be read, and both ask for figures
// that there are. Needs promtool.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const read = (path) => readFileSync(join(here, path), "utf8");

function promtool(...args) {
  try {
    return execFileSync("promtool", args, { cwd: here, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    assert.fail(`${error.stdout ?? ""}${error.stderr ?? ""}${error.message}`);
  }
}

/** The dashboard's expressions, with an interval as Grafana gives one. */
function expressions() {
  const { panels } = JSON.parse(read("grafana.json"));
  const all = panels.flatMap((panel) => panel.targets.map((target) => target.expr));
  assert.ok(all.length >= 12);
  return all.map((expr) => expr.replaceAll("$__rate_interval", "1m"));
}

test("alerts come when they are to, and only then", () => {
  promtool("check", "rules", "alerts.yml");
  promtool("test", "rules", "alerts_test.yml");
});

test("each expression of the dashboard can be read", () => {
  const folder = mkdtempSync(join(tmpdir(), "voicelane-monitoring-"));
  try {
    const rules = expressions().map((expr, index) => `      - record: panel:${index}\n        expr: ${JSON.stringify(expr)}\n`);
    const file = join(folder, "dashboard.yml");
    writeFileSync(file, `groups:\n  - name: dashboard\n    rules:\n${rules.join("")}`);
    promtool("check", "rules", file);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("both ask for figures that there are", () => {
  const families = (program) =>
    read(`../controlplane/${program}/tests/it/metrics.txt`).split("\n").map((line) => line.split(" ")[0]);
  const known = new Set([...families("router"), ...families("qos-server")]);
  const text = read("alerts.yml") + expressions().join("\n");
  const asked = new Set(text.match(/\bvoicelane_\w+/g));
  assert.ok(asked.size > 15);
  const missing = [...asked].filter((name) => !known.has(name) && !known.has(name.replace(/_(total|bucket)$/, "")));
  assert.deepEqual(missing, []);
});

test("classes are named as the router names them", () => {
  const phb = read("../dataplane/src/diffserv/phb.rs");
  const text = read("alerts.yml") + expressions().join("\n");
  const values = [...text.matchAll(/phb=~?"([^"]+)"/g)].flatMap((match) => match[1].split("|"));
  assert.ok(values.length >= 6);
  for (const value of values) assert.ok(phb.includes(` = "${value}",`), value);
});
