// The default model: downloaded from beside the page with one click, hashed, kept, opened, and asked.

import assert from "node:assert/strict";
import { Window } from "../window.mjs";

export const name = "catalogue";

export async function run(desk) {
  const page = await desk.reopen("#temperature=0&repetition_penalty=1&ratio=0.4&max_tokens=6", { scheme: "dark" });
  const window = new Window(page);
  const last = await window.until("the model of the last visit", ({ model }) => model.status === "ready");
  await window.click(`Model: ${last.model.name}`);
  await window.click("Download SmolLM2 135M Instruct, Q4_1");
  const { model } = await window.until("the model", ({ model }) => model.status === "ready" && model.name === "smollm2-135m");
  desk.note(`the default model loads in ${model.seconds.toFixed(1)} s, behind its download`);
  await window.ask("Name three colours.");
  const answer = await window.answer();
  await desk.shoot(page, "catalogue");
  assert.equal(answer.error, null);
  assert.equal(answer.figures.answer_tokens, 6);
  const { prefilled, prefill_seconds, decoded, decode_seconds } = answer.figures;
  desk.note(`prefill ${(prefilled / prefill_seconds).toFixed(1)} tokens/s, decode ${(decoded / decode_seconds).toFixed(1)} tokens/s`);
  const kept = await page.evaluate(async () => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("models");
    const names = [];
    for await (const name of models.keys()) names.push(name);
    return names;
  });
  assert.ok(kept.some((name) => name.startsWith("SmolLM2")), `kept: ${kept}`);
}
