// On a narrow screen there is one column at a time: the conversation first, pruning and the list where they are asked for.

import assert from "node:assert/strict";
import { Window } from "../window.mjs";

export const name = "phone";

export async function run(desk) {
  const page = await desk.reopen("#temperature=0", { width: 420, height: 800 });
  const window = new Window(page);
  const fits = async (label) => {
    const { bounds } = await window.find(label);
    const [left, , right, bottom] = bounds;
    assert.ok(left >= 0 && right <= 420 && bottom <= 800, `${label} lies at ${bounds}`);
  };
  await fits("Message");
  await fits("Chat settings");
  await desk.shoot(page, "phone");
  await window.click("Pruning");
  await window.find("What to prune");
  await fits("Pruning ratio");
  await desk.shoot(page, "phone-pruning");
  await window.click("Pruning");
  await window.click("List");
  await window.click("New chat", "Button");
  await fits("Message");

  // Turned or widened, it shows what it showed before.
  await page.setViewportSize({ width: 1280, height: 800 });
  await window.find("Search conversations");
  await window.find("What to prune");
}
