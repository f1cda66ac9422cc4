// Starts the program, or says why it cannot run. What it and the page have to do with one another: index.html.
// A plain script, not a module: a page that was opened from disk could not load a module, and should say so.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const { build, bytes } = document.documentElement.dataset;
  // The files of this build lie beside this script, wherever the folder is.
  const beside = (file) => new URL(`${file}?${build}`, here).href;
  const here = document.currentScript.src;
  let over = false;

  // Shows one explanation in place of everything, with the reason where there is one.
  function explain(trouble, reason) {
    if (over) return;
    over = true;
    if (at("loading")) at("loading").remove();
    at("secateur").hidden = true;
    for (const section of document.querySelectorAll("[data-trouble]")) {
      section.hidden = !section.dataset.trouble.split(" ").includes(trouble);
    }
    if (reason) {
      at("detail").textContent = reason;
      at("reason").hidden = false;
    }
    at("reload").addEventListener("click", () => location.reload());
    at("trouble").hidden = false;
    at("trouble").focus();
  }

  const page = {
    program: null,
    failed: (reason) => explain(at("loading") ? "start" : "stopped", String(reason)),
  };
  globalThis.secateurPage = Object.seal(page);

  // Bytes of memory that the program holds.
  let memory = null;
  const held = () => (memory ? memory.buffer.byteLength : 0);

  // A program that traps is over, whatever goes on being called of it. One that was not told why has no memory left, or
  // has gone too deep: for a panic, the panic hook speaks first.
  function trapped(error) {
    const trap = error instanceof WebAssembly.RuntimeError;
    const deep = error instanceof RangeError && /call stack|recursion/i.test(error.message);
    const full = error instanceof RangeError && /memory|allocation/i.test(error.message);
    if (!trap && !deep && !full) return;
    const short = full || (trap && held() > 2 ** 30);
    const share = `${error.name}: ${error.message} (the program holds ${Math.round(held() / 2 ** 20)} MiB)`;
    explain(short ? "memory" : at("loading") ? "start" : "stopped", share);
  }
  addEventListener("error", (event) => trapped(event.error));
  addEventListener("unhandledrejection", (event) => trapped(event.reason));

  // The module's bytes as they come in, with the share of them shown.
  function counted(response) {
    const total = Number(bytes);
    let seen = 0;
    const counter = new TransformStream({
      transform(chunk, out) {
        seen += chunk.byteLength;
        if (total > 0 && at("progress")) {
          at("progress").value = Math.min(seen / total, 1);
          const percent = Math.floor(Math.min(seen / total, 1) * 100);
          at("status").textContent = percent < 100 ? `Loading… ${percent} %` : "Starting…";
        }
        out.enqueue(chunk);
      },
      flush() {
        if (!at("progress")) return;
        at("progress").removeAttribute("value");
        at("status").textContent = "Starting…";
      },
    });
    return new Response(response.body.pipeThrough(counter), { headers: { "Content-Type": "application/wasm" } });
  }

  async function start() {
    if (location.protocol === "file:") return explain("file");
    if (!isSecureContext) return explain("insecure");
    if (!navigator.gpu) return explain("webgpu");
    let adapter = null;
    try {
      adapter = await navigator.gpu.requestAdapter();
    } catch (error) {
      return explain("adapter", String(error));
    }
    if (!adapter) return explain("adapter");

    let program, response;
    try {
      [program, response] = await Promise.all([import(beside("secateur.js")), fetch(beside("secateur_bg.wasm"))]);
      if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
    } catch (error) {
      return explain("download", String(error));
    }
    page.program = program;
    try {
      ({ memory } = await program.default({ module_or_path: counted(response) }));
    } catch (error) {
      // What broke off on the way, and what failed as it began.
      const lost = error instanceof TypeError || error instanceof WebAssembly.CompileError;
      explain(lost ? "download" : "start", String(error));
    }
  }
  start();
})();
