// A small model, picked from the disk, answers in the page as it answers natively: the same tokens, and the same units kept,
// after the ratio was set with the slider. tests/page.rs has asked the same question before.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Window } from "../window.mjs";

export const name = "chat";

const LINK = "#temperature=0&repetition_penalty=1&method=pp&max_tokens=40";

export async function run(desk) {
  const native = JSON.parse(await readFile(path.join(desk.target, "page-reference.json"), "utf8"));
  // Long tasks are what would hold a frame up, whatever the graphics device takes.
  const before = () => {
    globalThis.longTasks = [];
    const note = (list) => globalThis.longTasks.push(...list.getEntries().map(({ duration }) => Math.round(duration)));
    new PerformanceObserver(note).observe({ entryTypes: ["longtask"] });
  };
  const page = await desk.reopen(LINK, { before });
  const window = new Window(page);
  const model = await window.open(path.join(desk.target, "page-model.gguf"));
  assert.match(model.device, /swiftshader/i);

  await window.slide("Pruning ratio", "ratio", native.ratio, 0.9);
  await page.evaluate(() => (globalThis.longTasks.length = 0));
  const [question, expected] = native.messages;
  await window.ask(question.text);
  const answer = await window.answer();
  const shown = await window.report();
  await desk.shoot(page, "chat");

  assert.equal(answer.error, null);
  assert.equal(answer.text, expected.text, "the page and the native engine answer alike");
  assert.equal(answer.figures.answer_tokens, expected.figures.answer_tokens);
  assert.deepEqual(shown.heats, native.heats, "and keep the same units");
  assert.ok(shown.heats.length >= 2, "one choice of the prompt, one on the way");
  const long = await page.evaluate(() => globalThis.longTasks);
  desk.note(`longest task of the page during an answer: ${Math.max(0, ...long)} ms`);
}
