// The device that computes is lost in the middle of an answer: what was said stays, the model loads again, and the next
// question is answered.

import assert from "node:assert/strict";
import { Window } from "../window.mjs";

export const name = "lost";

export async function run(desk) {
  const before = () => {
    const request = GPUAdapter.prototype.requestDevice;
    globalThis.devices = [];
    GPUAdapter.prototype.requestDevice = async function (...options) {
      const device = await request.apply(this, options);
      globalThis.devices.push(device);
      return device;
    };
  };
  // A page whose device is lost on purpose complains of it.
  const page = await desk.reopen("#temperature=0&max_tokens=300", { before, watched: false });
  const window = new Window(page);
  await window.until("the model of the last visit", ({ model }) => model.status === "ready");
  await window.ask("Once upon a time");
  await window.until("some text", ({ messages }) => messages.at(-1).text.length > 20);
  await page.evaluate(() => globalThis.devices.findLast(({ label }) => label === "secateur").destroy());

  const answer = await window.answer();
  assert.match(answer.error, /GPU device failed/);
  assert.ok(answer.text.length > 20, "what was said stays");
  await desk.shoot(page, "lost");
  await window.until("the model again", ({ model, lost }) => model.status === "ready" && lost === null);
  await window.ask("And then?");
  await window.until("an answer", ({ messages }) => messages.at(-1).text.length > 5);
  await window.click("Stop");
  assert.equal((await window.answer()).error, null);
}
