// What the content security policy keeps out.

import assert from "node:assert/strict";

export const name = "policy";

// Each: what is tried in the page, and the directive that must stop it.
const TRIED = [
  ["require-trusted-types-for", () => setTimeout(() => eval("1"))],
  ["script-src-elem", () => import("https://secateur.test/a.js").catch(() => {})],
  ["require-trusted-types-for", () => document.body.insertAdjacentHTML("beforeend", "<b>words</b>")],
  ["style-src-attr", () => document.body.setAttribute("style", "color: red")],
  ["connect-src", () => fetch("https://secateur.test/").catch(() => {})],
  ["connect-src", () => fetch("https://huggingface.co.secateur.test/").catch(() => {})],
  ["img-src", () => Object.assign(new Image(), { src: "https://secateur.test/a.png" })],
  ["frame-src", () => document.body.append(Object.assign(document.createElement("iframe"), { src: "https://secateur.test/" }))],
  ["form-action", () => {
    const form = Object.assign(document.createElement("form"), { action: "https://secateur.test/" });
    document.body.append(form);
    form.submit();
  }],
  ["base-uri", () => document.head.append(Object.assign(document.createElement("base"), { href: "https://secateur.test/" }))],
];

export async function run(desk) {
  // Not watched: the browser reports every breach.
  const page = await desk.page({ watched: false, before: () => delete Navigator.prototype.gpu });
  await page.goto(desk.address);
  for (const [directive, attempt] of TRIED) {
    const stopped = page.evaluate(
      () =>
        new Promise((done, fail) => {
          addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective), { once: true });
          setTimeout(() => fail(new Error("nothing was stopped")), 5000);
        }),
    );
    await page.evaluate(attempt).catch(() => {});
    assert.equal(await stopped, directive, String(attempt));
  }
  await page.close();
}
