// The server: types, ranges, and nothing beside its folders.

import assert from "node:assert/strict";
import { request } from "node:http";

export const name = "serve";

// As the bytes go over the wire: `fetch` would tidy the path up.
function ask(address, path, { method = "GET", headers = {} } = {}) {
  const { port } = new URL(address);
  return new Promise((done, fail) => {
    const asking = request({ host: "127.0.0.1", port, path, method, headers }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) });
      });
    });
    asking.on("error", fail);
    asking.end();
  });
}

export async function run(desk) {
  const get = (path, options) => ask(desk.address, path, options);
  const ranged = (range, headers = {}) => get("/start.js", { headers: { Range: range, ...headers } });

  const index = await get("/");
  assert.equal(index.status, 200);
  assert.match(index.headers["content-type"], /^text\/html/);
  assert.equal((await get("/secateur_bg.wasm?1", { method: "HEAD" })).headers["content-type"], "application/wasm");

  const whole = await get("/start.js");
  assert.match(whole.headers["content-type"], /^text\/javascript/);
  assert.equal(whole.headers["accept-ranges"], "bytes");
  const size = whole.body.length;
  assert.equal(Number(whole.headers["content-length"]), size);
  const head = await get("/start.js", { method: "HEAD" });
  assert.deepEqual([head.status, head.body.length, Number(head.headers["content-length"])], [200, 0, size]);

  for (const [range, first, last] of [
    ["bytes=0-0", 0, 0],
    ["bytes=10-19", 10, 19],
    ["bytes=10-", 10, size - 1],
    ["bytes=-7", size - 7, size - 1],
    [`bytes=5-${size + 100}`, 5, size - 1],
    [`bytes=-${size + 100}`, 0, size - 1],
  ]) {
    const part = await ranged(range);
    assert.equal(part.status, 206, range);
    assert.equal(part.headers["content-range"], `bytes ${first}-${last}/${size}`);
    assert.deepEqual(part.body, whole.body.subarray(first, last + 1), range);
  }
  for (const range of [`bytes=${size}-`, "bytes=-0"]) {
    const none = await ranged(range);
    assert.equal(none.status, 416, range);
    assert.equal(none.headers["content-range"], `bytes */${size}`);
  }
  for (const range of ["bytes=9-3", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=a-b"]) {
    assert.equal((await ranged(range)).status, 200, range);
  }
  assert.equal((await ranged("bytes=0-3", { "If-Range": whole.headers.etag })).status, 206);
  assert.equal((await ranged("bytes=0-3", { "If-Range": '"another"' })).status, 200);
  assert.equal((await get("/start.js", { headers: { "If-None-Match": whole.headers.etag } })).status, 304);

  for (const path of [
    "/nothing",
    "/../web-build/CACHEDIR.TAG",
    "/%2e%2e/web-build/CACHEDIR.TAG",
    "/..%2fweb-build%2fCACHEDIR.TAG",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/models/../../../../../../../../etc/passwd",
    "/models/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
    "/models/",
    "/start.js/",
    "/start.js%00.html",
  ]) {
    assert.equal((await get(path)).status, 404, path);
  }
  assert.equal((await get("/", { method: "POST" })).status, 501);
}
