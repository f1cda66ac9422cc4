// After a reload the conversation is there, and so is the model; a second tab is told that the first has them.

import assert from "node:assert/strict";
import { started } from "../desk.mjs";
import { Window } from "../window.mjs";

export const name = "kept";

export async function run(desk) {
  const page = desk.program;
  const before = await new Window(page).report();
  // What is kept is written soon after it changed.
  await page.waitForTimeout(2500);

  const second = await desk.page();
  await second.goto(desk.address);
  await started(second);
  await new Window(second).find("Your conversations could not be opened");
  await desk.shoot(second, "second-tab");
  await second.close();

  await page.goto("about:blank");
  await page.goto(desk.address);
  await started(page);
  const window = new Window(page);
  const after = await window.until("the model of the last visit", ({ model }) => model.status === "ready");
  assert.equal(after.model.name, before.model.name);
  assert.deepEqual(after.messages, before.messages);
  assert.deepEqual(after.heats, before.heats);
  await desk.shoot(page, "kept");
}
