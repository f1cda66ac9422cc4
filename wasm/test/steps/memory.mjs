// A browser that keeps nothing for the page: the page says so, and a model that is dropped onto it answers all the same.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Window } from "../window.mjs";

export const name = "memory";

export async function run(desk) {
  const native = JSON.parse(await readFile(path.join(desk.target, "page-reference.json"), "utf8"));
  const model = await readFile(path.join(desk.target, "page-model.gguf"));
  const before = () => delete StorageManager.prototype.getDirectory;
  const page = await desk.reopen("#temperature=0&repetition_penalty=1&method=pp&ratio=0.4&max_tokens=40", { before });
  const window = new Window(page);
  await window.find("Nothing is saved: what is said now is gone when this page is closed.");

  await page.evaluate((bytes) => {
    const file = new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "dropped.gguf");
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    const canvas = document.getElementById("secateur");
    for (const kind of ["dragover", "drop"]) {
      canvas.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
    }
  }, model.toString("base64"));
  const ready = ({ model }) => model.status === "ready" && model.name === "dropped.gguf";
  await window.until("the model that was dropped", ready);

  const [question, expected] = native.messages;
  await window.ask(question.text);
  const answer = await window.answer();
  assert.equal(answer.text, expected.text);
  await desk.shoot(page, "memory");
}
