// Where the program cannot run, the page says so, and what to do; on wide and narrow screens, in light and dark.

import assert from "node:assert/strict";
import path from "node:path";
import { pathToFileURL } from "node:url";

export const name = "explanations";

// Each: what is wrong, how it comes about, what must be read.
const CASES = [
  {
    name: "no-webgpu",
    before: () => delete Navigator.prototype.gpu,
    says: [/This browser has no WebGPU/, /Chrome, Edge/, /Safari/, /Firefox/],
  },
  {
    name: "no-adapter",
    before: () => {
      GPU.prototype.requestAdapter = async () => null;
    },
    says: [/No graphics device was found/, /graphics acceleration/, /Chrome, Edge/],
  },
  {
    name: "insecure",
    address: (desk) => desk.address.replace("localhost", "secateur.test"),
    says: [/must come over HTTPS/],
  },
  {
    name: "from-disk",
    address: (desk) => pathToFileURL(path.join(desk.pictures, "..", "web", "index.html")).href,
    says: [/must come from a server/, /make serve-web/],
  },
];
const SCREENS = [
  { width: 1280, height: 800, scheme: "light" },
  { width: 1280, height: 800, scheme: "dark" },
  { width: 400, height: 720, scheme: "light" },
  { width: 320, height: 568, scheme: "dark" },
];

export async function run(desk) {
  for (const { name, before, address, says } of CASES) {
    for (const screen of SCREENS) {
      const page = await desk.page({ before, ...screen });
      await page.goto(address ? address(desk) : desk.address);
      await page.locator("#trouble").waitFor({ timeout: 30_000 });
      const text = await page.locator("#trouble").innerText();
      for (const words of says) assert.match(text, words, name);
      assert.equal(await page.locator("#trouble h1:visible").count(), 1, `${name}: one explanation at a time`);
      assert.ok(!(await page.locator("#loading").count()), `${name}: nothing is loading`);
      const wide = await page.locator("#trouble").evaluate((main) => main.scrollWidth - main.clientWidth);
      assert.ok(wide <= 0, `${name}: ${wide} pixels too wide at ${screen.width}`);
      await desk.shoot(page, `${name}-${screen.width}-${screen.scheme}`);
      await page.close();
    }
  }

  // Without scripts nothing runs; what is there to read says so.
  const page = await desk.page();
  const quiet = await page.context().newCDPSession(page);
  await quiet.send("Emulation.setScriptExecutionDisabled", { value: true });
  await page.goto(desk.address);
  assert.match(await page.locator("noscript").innerText(), /allow JavaScript/);
  await desk.shoot(page, "no-script");
  await page.close();
}
