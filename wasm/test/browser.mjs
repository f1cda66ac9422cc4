// The page in a real browser: `make test-web`, or `node browser.mjs STEP...` for some of the steps below.
//
// A step is a file of `steps/` with a `name` and `run(desk)`, which throws where something is not as it should be. Steps run in
// this order on one desk: a page that one opened is there for the next. What the browser complains of in a watched page
// fails the step that it came in.

import { Desk } from "./desk.mjs";
import * as serve from "./steps/serve.mjs";
import * as start from "./steps/start.mjs";
import * as policy from "./steps/policy.mjs";
import * as explanations from "./steps/explanations.mjs";
import * as failures from "./steps/failures.mjs";
import * as chat from "./steps/chat.mjs";
import * as kept from "./steps/kept.mjs";
import * as limits from "./steps/limits.mjs";
import * as memory from "./steps/memory.mjs";
import * as phone from "./steps/phone.mjs";
import * as lost from "./steps/lost.mjs";
import * as catalogue from "./steps/catalogue.mjs";

const STEPS = [serve, start, policy, explanations, failures, chat, kept, limits, memory, lost, catalogue, phone];

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !STEPS.some((step) => step.name === name));
if (unknown !== undefined) {
  console.error(`error: there is no step \`${unknown}\`: there are ${STEPS.map((step) => step.name).join(", ")}`);
  process.exit(2);
}

let desk;
try {
  desk = await Desk.open();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
let failed = 0;
for (const step of STEPS.filter(({ name }) => asked.length === 0 || asked.includes(name))) {
  const begun = performance.now();
  const problems = [];
  try {
    await step.run(desk);
  } catch (error) {
    problems.push(error.stack ?? String(error));
    await desk.shootAll(`failed-${step.name}`);
  }
  problems.push(...desk.complaints());
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`${problems.length === 0 ? "ok" : "FAILED"} ${step.name} (${seconds} s)`);
  for (const problem of problems) console.error(problem);
  failed += problems.length === 0 ? 0 : 1;
}
await desk.close();
console.log(`pictures: ${desk.pictures}`);
process.exit(failed === 0 ? 0 : 1);
