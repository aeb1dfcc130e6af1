// VERSION URL [BODY]: with node's modules `https` and `http2`.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import { argv } from "node:process";

const [, , version, url, body] = argv;
const method = body ? "POST" : "GET";
let stream;
if (version === "2") {
  const { origin, pathname, search } = new URL(url);
  const session = http2.connect(origin);
  stream = session.request({ ":method": method, ":path": pathname + search });
  stream.on("response", () => console.log(session.alpnProtocol === "h2" ? "HTTP/2" : session.alpnProtocol));
  stream.on("close", () => session.close());
  stream.on("data", (data) => process.stdout.write(data));
} else {
  stream = https.request(url, { method }, (response) => {
    console.log(`HTTP/${response.httpVersion}`);
    response.pipe(process.stdout);
  });
}
stream.end(body && readFileSync(body));
