/**
 * Reads structure documents of deepstruct, version 1.0.0, as docs/format.md describes them.
 *
 * Web standards only: it runs in browsers (in secure contexts, for WebCrypto) and in Node from 18 on.
 * Operators are not checked against the ONNX specification.
 */

import { canonical, checkDigest, digestText, sha256 } from "./digest.mjs";
import { readGraph } from "./graph.mjs";
import { Item } from "./item.mjs";
import { decodeText, DocumentError, LIMITS, parse } from "./json.mjs";
import { product, readMask } from "./mask.mjs";
import { DTYPES, readShape } from "./tensor.mjs";
import { readWeightsMember } from "./weights.mjs";

export { DocumentError, LIMITS } from "./json.mjs";
export { Mask } from "./mask.mjs";
export { readWeights } from "./weights.mjs";

/**
 * @typedef {object} Parameter
 * @property {string} dtype
 * @property {number[]} shape
 * @property {import("./mask.mjs").Mask} [mask] without it, all entries exist
 */

/**
 * @typedef {object} Document
 * @property {string} version
 * @property {object} graph in its normal form: what may be left out is left out or has its default
 * @property {Record<string, Parameter>} parameters
 * @property {{uri: string, format: string, layout: string, digest?: string} | undefined} weights
 * @property {string} digest of the document
 * @property {object} others unknown members of the root
 * @property {{pointer: string, message: string}[]} warnings
 * @property {string} text the document itself, in which errors of the weights find their place
 * @property {typeof LIMITS} limits that it was read with
 */

/**
 * Reads a document.
 * @param {Uint8Array} bytes
 * @param {object} [options]
 * @param {object} [options.operators] content of schemas/onnx-operators.json. It tells FLOAT from INT attributes;
 *   without it, a number with a fraction or exponent is a FLOAT. That is the same unless a document writes a FLOAT as
 *   an integer beyond 2^24, or breaks the operator's specification.
 * @param {Partial<typeof LIMITS>} [options.limits]
 * @returns {Promise<Document>}
 * @throws {DocumentError} for whatever a reader must refuse, and for a digest that is not that of the content
 */
export async function readDocument(bytes, { operators, limits } = {}) {
  const bounds = { ...LIMITS, ...limits };
  const text = decodeText(bytes, bounds);
  const root = new Item(parse(text, bounds), []);
  try {
    return { ...(await readRoot(root, operators, bounds)), warnings: root.warnings, text, limits: bounds };
  } catch (error) {
    if (error instanceof DocumentError) error.locate(text, bounds);
    throw error;
  }
}

const EXTENSION_LISTS = ["extensions_used", "extensions_required"];

async function readRoot(root, operators, limits) {
  const version = readHead(root);
  const others = root.object(
    ["format", "version", "graph"],
    ["$schema", "min_version", "generator", ...EXTENSION_LISTS, "digest", "parameters", "weights"],
  );
  const graph = readGraph(root.get("graph"), root.get("parameters"), operators);
  const { parameters, normal } = await readParameters(root.get("parameters")?.entries() ?? [], limits);
  const weights = root.get("weights") && readWeightsMember(root.get("weights"), parameters);
  const hash = await sha256("deepstruct.structure.v1\0", canonical({ graph, parameters: normal }));
  checkDigest(root.get("digest"), digestText(hash));
  return { version, graph, parameters, weights, digest: digestText(hash), others };
}

/** What tells whether this reader understands the document at all. */
function readHead(root) {
  root.entries();
  for (const name of ["format", "version"]) {
    if (!root.get(name)) root.fail(`the member "${name}" is missing`);
  }
  root.get("format").oneOf(["deepstruct"]);
  const version = readVersion(root.get("version"));
  const least = root.get("min_version") && readVersion(root.get("min_version"));
  if (version[0] !== 1) root.get("version").fail(`this reader is for major version 1, not ${version[0]}`);
  if (least) {
    if (least[0] !== version[0]) root.get("min_version").fail('"min_version" has another major than "version"');
    if (compare(least, version) > 0) root.get("min_version").fail('"min_version" is larger than "version"');
    if (least[1] > 0) root.get("min_version").fail(`this reader knows version 1.0, not ${least.join(".")}`);
  }
  if (version[1] > 0) {
    root.warnings.push({ pointer: "/version", message: `${version.join(".")} is newer than this reader's 1.0` });
  }
  const used = readExtensions(root.get("extensions_used")).map(({ value }) => value);
  for (const extension of readExtensions(root.get("extensions_required"))) {
    if (!used.includes(extension.value)) extension.fail('the extension is not in "extensions_used"');
    extension.fail(`the document requires the extension ${extension.value}, which this reader does not know`);
  }
  const generator = root.get("generator");
  generator?.object(["name"], ["version"]);
  generator?.get("name").string();
  generator?.get("version")?.string();
  return root.get("version").value;
}

function readVersion(item) {
  const number = "(0|[1-9][0-9]{0,8})";
  const match = new RegExp(`^${number}\\.${number}\\.${number}$`).exec(item.string());
  return match ? match.slice(1).map(Number) : item.expected("a version MAJOR.MINOR.PATCH");
}

function compare(left, right) {
  return left.map((number, i) => number - right[i]).find((difference) => difference !== 0) ?? 0;
}

function readExtensions(item) {
  const names = item?.list() ?? [];
  for (const name of names) {
    if (!/^[A-Z0-9]+_[a-z0-9_]+$/.test(name.string())) name.expected("a name of an extension");
  }
  item?.distinct();
  return names;
}

/** Parameters, and their normal form. */
async function readParameters(entries, limits) {
  const parameters = Object.create(null);
  const normal = Object.create(null);
  let elements = 0;
  for (const [name, item] of entries) {
    const others = item.object(["dtype", "shape"], ["mask"]);
    const dtype = item.get("dtype").oneOf(Object.keys(DTYPES));
    const shape = readShape(item.get("shape"));
    parameters[name] = { ...others, dtype, shape };
    normal[name] = { ...others, dtype, shape };
    if (!item.get("mask")) continue;
    elements += product(shape);
    if (product(shape) > limits.elements) item.get("mask").fail(`a mask of more than ${limits.elements} elements`);
    if (elements > limits.allElements) item.get("mask").fail(`masks of more than ${limits.allElements} elements`);
    const { mask, others: beside } = await readMask(item.get("mask"), shape);
    parameters[name].mask = mask;
    if (mask.nnz < mask.size || Object.keys(beside).length > 0) {
      normal[name].mask = { ...beside, digest: await mask.digest() };
    }
  }
  return { parameters, normal };
}
