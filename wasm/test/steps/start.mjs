// The program starts: from any folder of a host, asking for nothing beside its own files, and draws.

import assert from "node:assert/strict";
import { started } from "../desk.mjs";

export const name = "start";

export async function run(desk) {
  // A folder below the root, as static hosts have it.
  const below = `${desk.address}some/folder/`;
  const moved = await desk.page();
  const strays = [];
  moved.on("request", (request) => {
    if (!request.url().startsWith(below)) strays.push(request.url());
  });
  await moved.route(`${below}**`, async (route) => {
    const response = await route.fetch({ url: route.request().url().replace(below, desk.address) });
    await route.fulfill({ response });
  });
  await moved.goto(below);
  await started(moved);
  assert.deepEqual(strays, [], "everything lies below the page's own folder");
  await moved.close();

  for (const scheme of ["dark", "light"]) {
    if (desk.program) await desk.program.close();
    desk.program = await desk.page({ scheme });
    await desk.program.goto(desk.address);
    await started(desk.program);
    const picture = await desk.shoot(desk.program, `start-${scheme}`);
    assert.ok((await desk.colours(picture)) > 8, "the window is drawn");
  }
}
