// A device of WebGPU's default limits and without any feature, which is all that some browsers give: the same answer.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Window } from "../window.mjs";

export const name = "limits";

export async function run(desk) {
  const native = JSON.parse(await readFile(path.join(desk.target, "page-reference.json"), "utf8"));
  const before = () => {
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = function ({ label } = {}) {
      return request.call(this, { label });
    };
  };
  const page = await desk.reopen("#temperature=0&repetition_penalty=1&method=pp&ratio=0.4&max_tokens=40", { before });
  const window = new Window(page);
  await window.until("the model of the last visit", ({ model }) => model.status === "ready");
  const [question, expected] = native.messages;
  await window.ask(question.text);
  const answer = await window.answer();
  assert.equal(answer.error, null);
  assert.equal(answer.text, expected.text);
  assert.deepEqual((await window.report()).heats, native.heats);
}
