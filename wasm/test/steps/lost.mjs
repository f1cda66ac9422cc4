// The device that computes is lost in the middle of an answer: what was said stays, the model loads again, and the next
// question is answered.

import assert from "node:assert/strict";
import { started } from "../desk.mjs";
import { Window } from "../window.mjs";

export const name = "lost";

export async function run(desk) {
  await desk.program?.close();
  // Pages that lose their device on purpose complain of it.
  const page = (desk.program = await desk.page({
    watched: false,
    before: () => {
      const request = GPUAdapter.prototype.requestDevice;
      globalThis.devices = [];
      GPUAdapter.prototype.requestDevice = async function (...options) {
        const device = await request.apply(this, options);
        globalThis.devices.push(device);
        return device;
      };
    },
  }));
  await page.goto(`${desk.address}#temperature=0&max_tokens=300`);
  await started(page);
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
