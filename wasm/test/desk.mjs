// What a test of the page works at: a server of the built page, a Chromium with WebGPU, and pages that are listened to.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { access, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const wasm = fileURLToPath(new URL("..", import.meta.url));
const target = path.resolve(wasm, "..", process.env.CARGO_TARGET_DIR || "target");

// A software device: the same on every machine, and there on machines without a graphics card. What it draws comes into
// pictures only where the browser itself is drawn through the same Vulkan.
const FLAGS = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--use-angle=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A name that is not the machine's own, for what browsers refuse to such pages.
  "--host-resolver-rules=MAP secateur.test 127.0.0.1",
];
const INSTALLED = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

async function exists(file) {
  return access(file).then(
    () => true,
    () => false,
  );
}

async function browserHere() {
  const named = process.env.CHROMIUM;
  for (const file of named ? [named] : [...INSTALLED, chromium.executablePath()]) {
    if (file && (await exists(file))) return file;
  }
  throw new Error(
    named
      ? `there is no ${named}, which CHROMIUM names`
      : "there is no Chromium here: install one (Debian and Ubuntu: `make deps-test`), or name it in CHROMIUM",
  );
}

// Starts the server on a free port: the process, and the address that it printed.
async function serve(folder) {
  const server = spawn("python3", [path.join(wasm, "serve"), folder, "--port", "0", "--quiet"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const gone = new Promise((_, fail) => {
    server.once("error", (error) => fail(new Error(`the server did not start: ${error.message}`)));
    server.once("exit", (code) => fail(new Error(`the server ended (${code})`)));
  });
  gone.catch(() => {});
  const lines = createInterface({ input: server.stdout });
  const said = new Promise((done) => lines.once("line", done));
  return { server, address: await Promise.race([said, gone]) };
}

export class Desk {
  /** The page's address, with a slash at its end. */
  address = "";
  /** The page that the program runs in, once a step has opened it; later steps go on there. */
  program = null;
  /** Folder of what was built. */
  target = target;
  /** Folder of the pictures. */
  pictures = path.join(target, "web-shots");

  #server = null;
  #profile = null;
  #context = null;
  #complaints = [];
  #allowed = [];

  static async open() {
    const desk = new Desk();
    try {
      await mkdir(desk.pictures, { recursive: true });
      const executablePath = await browserHere();
      ({ server: desk.#server, address: desk.address } = await serve(path.join(target, "web")));
      desk.#profile = await mkdtemp(path.join(tmpdir(), "secateur-web-"));
      desk.#context = await chromium.launchPersistentContext(desk.#profile, {
        executablePath,
        args: FLAGS,
        viewport: { width: 1280, height: 800 },
      });
    } catch (error) {
      await desk.close();
      throw error;
    }
    return desk;
  }

  async close() {
    await this.#context?.close();
    this.#server?.kill();
    if (this.#profile) await rm(this.#profile, { recursive: true, force: true });
  }

  /**
   * A new page. Where it is `watched`, an error in the console, a breach of the content security policy, an exception or a
   * request that failed is a complaint; `before` is run in it ahead of the page's own script.
   */
  async page({ watched = true, before = null, width = 1280, height = 800, scheme = "light" } = {}) {
    const page = await this.#context.newPage();
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    if (before) await page.addInitScript(before);
    if (watched) {
      const complain = (what) => {
        if (!this.#allowed.some((pattern) => pattern.test(what))) this.#complaints.push(what);
      };
      // Breaches of the policy are errors in the console too.
      page.on("console", (line) => {
        if (line.type() === "error") complain(`console: ${line.text()} (${line.location().url})`);
      });
      page.on("pageerror", (error) => complain(`exception: ${error.stack ?? error}`));
      page.on("requestfailed", (request) => complain(`request: ${request.url()} ${request.failure()?.errorText}`));
      page.on("crash", () => complain("the page crashed"));
    }
    return page;
  }

  /** The page that the program runs in, opened anew in place of the one before: `options` as of `page`. */
  async reopen(link = "", options = {}) {
    if (this.program) {
      await this.program.close();
      // The browser gives the page's lock on the conversations back a moment later.
      await new Promise((done) => setTimeout(done, 500));
    }
    this.program = await this.page(options);
    await this.program.goto(this.address + link);
    await started(this.program);
    return this.program;
  }

  /** Something that was measured, for whoever reads the output. */
  note(text) {
    console.log(`   ${text}`);
  }

  /** From now on, complaints of this kind are none. */
  allow(pattern) {
    this.#allowed.push(pattern);
  }

  /** What watched pages have complained of since the last time. */
  complaints() {
    return this.#complaints.splice(0);
  }

  /** A picture of what the page shows, kept under a name: the PNG's bytes. */
  async shoot(page, name) {
    return page.screenshot({ path: path.join(this.pictures, `${name}.png`) });
  }

  /** Pictures of every page that is open. */
  async shootAll(name) {
    for (const [index, page] of this.#context.pages().entries()) {
      if (page.url() !== "about:blank") await this.shoot(page, `${name}-${index}`).catch(() => {});
    }
  }

  /** How many colours a PNG has. */
  async colours(png) {
    const page = await this.page({ watched: false });
    const count = await page.evaluate(async (bytes) => {
      const picture = await createImageBitmap(new Blob([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))]));
      const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
      context.drawImage(picture, 0, 0);
      const { data } = context.getImageData(0, 0, picture.width, picture.height);
      return new Set(new Uint32Array(data.buffer)).size;
    }, png.toString("base64"));
    await page.close();
    return count;
  }
}

/** Waits until the program's window is there. */
export async function started(page) {
  await page.waitForFunction(() => !document.getElementById("loading"), null, { timeout: 120_000 });
  const trouble = await page.locator("#trouble").isVisible();
  assert.ok(!trouble, `the program did not start: ${await page.locator("#trouble").innerText()}`);
  // A few frames, for the first of them may be empty.
  await page.evaluate(async () => {
    for (let frame = 0; frame < 5; frame += 1) await new Promise(requestAnimationFrame);
  });
}
