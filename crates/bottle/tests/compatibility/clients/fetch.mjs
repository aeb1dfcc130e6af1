// VERSION URL [BODY]: with the `fetch` of node, deno and bun.
import { readFileSync } from "node:fs";
import { argv } from "node:process";

const [, , version, url, body] = argv;
const options = body ? { method: "POST", body: readFileSync(body) } : {};
if (globalThis.Deno) {
  options.client = Deno.createHttpClient({ http1: version === "1.1", http2: version === "2" });
}
const response = await fetch(url, options);
console.log(await response.text());
