// VERSION URL [BODY]: with axios, which makes a refusal an error that has the response.
import { readFileSync } from "node:fs";
import { argv } from "node:process";
import axios from "axios";

const [, , , url, body] = argv;
const sent = body ? axios.post(url, readFileSync(body)) : axios.get(url);
const response = await sent.catch((error) => error.response ?? Promise.reject(error));
console.log(`HTTP/${response.request.res.httpVersion}`);
console.log(JSON.stringify(response.data));
