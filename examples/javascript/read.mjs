/** `node read.mjs FILE...`: reads documents and their weights, and prints one line of JSON for each. */

import { open, readFile, realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, sep } from "node:path";
import { DocumentError, readDocument, readWeights } from "./deepstruct.mjs";

const table = new URL("../../schemas/onnx-operators.json", import.meta.url);
const operators = JSON.parse(await readFile(table, "utf8"));

/** The bytes of a file; a pipe or a device could be without end. */
async function readBytes(path) {
  const file = await open(path);
  try {
    if (!(await file.stat()).isFile()) throw new Error(`${path} is no file`);
    return new Uint8Array(await file.readFile());
  } finally {
    await file.close();
  }
}

/** The bytes of the weights file, which lies in the document's folder or below it after all links are followed. */
async function readWeightsFile(path, { text, weights }) {
  const refuse = (sentence) => {
    throw new DocumentError(sentence, ["weights", "uri"]).locate(text);
  };
  const folder = dirname(path);
  const inside = await realpath(join(folder, weights.uri)).then(
    async (target) => relative(await realpath(folder), target),
    () => refuse("there is no such weights file"),
  );
  if (inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside)) {
    refuse("the weights file lies outside of the document's folder");
  }
  return readBytes(join(folder, weights.uri)).catch((error) => refuse(error.message));
}

async function describe(path) {
  const document = await readDocument(await readBytes(path), { operators });
  const masks = Object.create(null);
  for (const [name, { mask }] of Object.entries(document.parameters)) {
    if (mask) masks[name] = { nnz: mask.nnz, digest: await mask.digest() };
  }
  const weights = document.weights && (await readWeights(document, await readWeightsFile(path, document)));
  return { digest: document.digest, masks, weights: weights?.digest, warnings: document.warnings };
}

for (const path of process.argv.slice(2)) {
  try {
    console.log(JSON.stringify({ file: path, ...(await describe(path)) }));
  } catch (error) {
    const { message, pointer, line, column } = error;
    console.log(JSON.stringify({ file: path, error: { message, pointer, line, column } }));
    process.exitCode = 1;
  }
}
