// The program's window from outside: it is drawn on a canvas, so the program itself is asked what lies where and what it shows
// (src/page.rs); what is done is done with mouse and keyboard.

import assert from "node:assert/strict";

const PATIENCE = 120_000;

export class Window {
  constructor(page) {
    this.page = page;
  }

  /** What the window shows: model, messages, choices of units. */
  async report() {
    return JSON.parse(await this.page.evaluate(() => secateurPage.program.report()));
  }

  /** Waits until `seen` holds of the report, and returns it. */
  async until(what, seen, patience = PATIENCE) {
    const end = performance.now() + patience;
    let last = null;
    while (performance.now() < end) {
      last = await this.report();
      if (last && seen(last)) return last;
      await this.page.waitForTimeout(100);
    }
    throw new Error(`${what} did not come; the window shows ${JSON.stringify(last)?.slice(0, 2000)}`);
  }

  /**
   * The part of the window with this name, or beside words of this name; mere words where there is no such part. The first look
   * begins to listen, so it may take some frames.
   */
  async find(label, wanted = null) {
    let places = [];
    for (let tries = 0; tries < 100; tries += 1) {
      places = JSON.parse(await this.page.evaluate(() => secateurPage.program.places())) ?? [];
      const named = places.filter((place) => place.label === label);
      const fits = ({ role }) => (wanted ? role === wanted : role !== "Label" && role !== "TextRun");
      const place = named.find(fits) ?? (wanted ? null : named[0]);
      if (place) return place;
      await this.page.waitForTimeout(100);
    }
    const names = places.map((place) => place.label).join(", ");
    throw new Error(`the window has no part named ${label}; there are: ${names}`);
  }

  async click(label, wanted = null) {
    const [left, top, right, bottom] = (await this.find(label, wanted)).bounds;
    await this.page.mouse.click((left + right) / 2, (top + bottom) / 2);
  }

  /** Opens a model's file through the browser's dialog. */
  async open(file) {
    const dialog = this.page.waitForEvent("filechooser");
    await this.click("Open file…");
    await (await dialog).setFiles(file);
    const { model } = await this.until("the model", ({ model }) => ["ready", "failed"].includes(model.status));
    assert.equal(model.status, "ready", model.error);
    return model;
  }

  /** Types a question and sends it. */
  async ask(question) {
    await this.click("Message");
    await this.page.keyboard.type(question);
    await this.page.keyboard.press("Enter");
    const last = ({ messages }) => messages.findLast(({ role }) => role === "user")?.text === question;
    return this.until("the question in the conversation", last);
  }

  /** Waits for the end of what runs; returns the last answer. */
  async answer() {
    const { messages } = await this.until("the answer's end", ({ busy }) => !busy);
    return messages.at(-1);
  }

  /** Drags a slider that ends at `largest` until the report says `wanted` under `name`. */
  async slide(label, name, wanted, largest) {
    const [left, top, right, bottom] = (await this.find(label, "Slider")).bounds;
    const middle = (top + bottom) / 2;
    const at = async (share) => {
      await this.page.mouse.move(left + 8, middle);
      await this.page.mouse.down();
      await this.page.mouse.move(left + 8 + share * (right - left - 16), middle, { steps: 5 });
      await this.page.mouse.up();
      await this.page.waitForTimeout(600);
      return (await this.report())[name];
    };
    let [low, high] = [0, 1];
    for (let tries = 0; tries < 20; tries += 1) {
      const share = tries === 0 ? wanted / largest : (low + high) / 2;
      const found = await at(share);
      if (Math.abs(found - wanted) < 1e-9) return;
      if (found < wanted) low = share;
      else high = share;
    }
    throw new Error(`${label} could not be moved to ${wanted}`);
  }
}
