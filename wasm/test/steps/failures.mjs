// What breaks on the way or later: the page says what happened, and reloads on a click.

import assert from "node:assert/strict";
import { started } from "../desk.mjs";

export const name = "failures";

async function explained(desk, page, picture, says) {
  await page.locator("#trouble").waitFor({ timeout: 60_000 });
  const text = await page.locator("#trouble").innerText();
  for (const words of says) assert.match(text, words, picture);
  assert.equal(await page.locator("#trouble h1:visible").count(), 1, picture);
  await desk.shoot(page, picture);
}

export async function run(desk) {
  // The browser itself reports what is broken on purpose here.
  const page = await desk.page({ watched: false, scheme: "dark" });

  for (const file of ["secateur_bg.wasm", "secateur.js"]) {
    await page.route(`**/${file}?*`, (route) => route.abort());
    await page.goto(desk.address);
    await explained(desk, page, `lost-${file.split(".")[0]}`, [/did not arrive/, /Check the connection/]);
    await page.unroute(`**/${file}?*`);
  }
  await page.route("**/secateur_bg.wasm?*", (route) => route.fulfill({ status: 404, body: "no" }));
  await page.goto(desk.address);
  await explained(desk, page, "lost-404", [/did not arrive/]);
  await page.unroute("**/secateur_bg.wasm?*");
  // Half of the module, as a proxy might give it.
  await page.route("**/secateur_bg.wasm?*", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ status: 200, body: (await response.body()).subarray(0, 100_000) });
  });
  await page.goto(desk.address);
  await explained(desk, page, "lost-half", [/did not arrive/]);
  await page.unroute("**/secateur_bg.wasm?*");

  // Slowly, so that the bar is seen.
  let let_go = () => {};
  const waiting = new Promise((go) => (let_go = go));
  await page.route("**/secateur_bg.wasm?*", async (route) => {
    await waiting;
    await route.continue();
  });
  await page.goto(desk.address, { waitUntil: "commit" });
  await page.locator("#progress").waitFor();
  await desk.shoot(page, "loading-dark");
  await page.locator("#progress").evaluate((bar) => {
    bar.value = 0.6;
    document.getElementById("status").textContent = "Loading… 60 %";
  });
  await desk.shoot(page, "loading-60");
  let_go();
  await started(page);
  await page.unroute("**/secateur_bg.wasm?*");

  // A panic tells its reason first, then the program traps; the first explanation stays.
  await page.evaluate(() => {
    secateurPage.failed("panicked at src/somewhere.rs:1:2");
    const module = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11]);
    const trap = new WebAssembly.Instance(new WebAssembly.Module(module)).exports.f;
    setTimeout(trap);
  });
  await explained(desk, page, "stopped", [/Secateur stopped/, /conversations are kept/, /What happened/]);
  await page.locator("summary").click();
  assert.match(await page.locator("#detail").innerText(), /somewhere.rs:1:2/);
  await desk.shoot(page, "stopped-reason");
  await page.getByRole("button", { name: "Reload" }).click();
  await started(page);

  // A trap that nothing was told of.
  await page.evaluate(() => {
    const module = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11]);
    const trap = new WebAssembly.Instance(new WebAssembly.Module(module)).exports.f;
    queueMicrotask(trap);
  });
  await explained(desk, page, "trapped", [/Secateur stopped/, /What happened/]);
  await page.close();
}
