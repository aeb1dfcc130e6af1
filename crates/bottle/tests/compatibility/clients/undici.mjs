// VERSION URL [BODY]: with undici.
import diagnostics from "node:diagnostics_channel";
import { readFileSync } from "node:fs";
import { argv } from "node:process";
import { Agent, request } from "undici";

const [, , version, url, body] = argv;
diagnostics.subscribe("undici:client:connected", ({ connectParams }) =>
  console.log(connectParams.version === "h2" ? "HTTP/2" : "HTTP/1.1"));
const dispatcher = new Agent({ allowH2: version === "2" });
const options = body ? { method: "POST", body: readFileSync(body) } : {};
const response = await request(url, { ...options, dispatcher });
console.log(await response.body.text());
await dispatcher.close();
