/** The weights file of a document: the rules for its name, its safetensors content in either layout, its digest. */

import { canonical, checkDigest, digestText, sha256 } from "./digest.mjs";
import { Item } from "./item.mjs";
import { decodeText, DocumentError, parse } from "./json.mjs";
import { product } from "./mask.mjs";
import { DTYPES } from "./tensor.mjs";

const STORED_BYTES = {
  __proto__: null,
  ...{ BOOL: 1, I8: 1, U8: 1, F8_E4M3: 1, F8_E5M2: 1, F8_E4M3FNUZ: 1, F8_E5M2FNUZ: 1, F8_E8M0: 1 },
  ...{ I16: 2, U16: 2, F16: 2, BF16: 2, I32: 4, U32: 4, F32: 4, I64: 8, U64: 8, F64: 8, C64: 8 },
};

/**
 * Reads `weights`. Whether the file lies in the document's folder after all links is for the caller to check.
 * @param {Item} item
 * @param {Record<string, import("./deepstruct.mjs").Parameter>} parameters
 */
export function readWeightsMember(item, parameters) {
  const others = item.object(["uri", "format", "layout"], ["digest"]);
  const uri = item.get("uri").string();
  if (/[\\:\0]/.test(uri)) item.get("uri").fail('a uri holds no "\\", ":" or zero character');
  if (uri.split("/").some((part) => part === "" || part === "." || part === "..")) {
    item.get("uri").fail('a uri is relative and has no parts "", "." or ".."');
  }
  item.get("format").oneOf(["safetensors"]);
  item.get("layout").oneOf(["values", "dense"]);
  if (item.get("digest")) checkDigest(item.get("digest"), item.get("digest").value);
  for (const [name, { dtype }] of Object.entries(parameters)) {
    if (dtype === "string") item.fail(`the parameter "${name}" is of strings, so there are no weights`);
    if (name === "__metadata__") item.fail('a document with weights has no parameter "__metadata__"');
  }
  const digest = item.get("digest")?.value;
  return { ...others, uri, format: "safetensors", layout: item.get("layout").value, ...(digest && { digest }) };
}

/**
 * Reads the numbers of all parameters and checks their digest.
 * @param {import("./deepstruct.mjs").Document} document one with `weights`
 * @param {Uint8Array} bytes content of the file that `weights.uri` names
 * @returns {Promise<{digest: string, entries: Record<string, Uint8Array>}>} `entries`: by parameter, the bytes of the
 *   entries that exist, in row-major order, little-endian
 * @throws {DocumentError} if the file is not what the document says
 */
export async function readWeights(document, bytes) {
  try {
    return await read(document, bytes);
  } catch (error) {
    if (error instanceof DocumentError && error.line === undefined) error.locate(document.text, document.limits);
    throw error;
  }
}

async function read({ parameters, weights }, bytes) {
  const tensors = readSafetensors(bytes);
  const extra = Object.keys(tensors).find((name) => !(name in parameters));
  if (extra !== undefined) throw fault(`the tensor "${extra}" is no parameter`);
  const entries = Object.create(null);
  const hashes = [];
  for (const name of Object.keys(parameters).sort(compareCodePoints)) {
    const { dtype, shape } = parameters[name];
    if (!(name in tensors)) throw fault("the weights file has no tensor of this name", ["parameters", name]);
    entries[name] = readEntries(name, parameters[name], tensors[name], weights.layout);
    hashes.push(await sha256(canonical([name, dtype, shape]), "\0", entries[name]));
  }
  const digest = digestText(await sha256("deepstruct.weights.v1\0", ...hashes));
  if (weights.digest !== undefined && weights.digest !== digest) {
    throw fault(`the digest is not that of the weights, ${digest}`, ["weights", "digest"]);
  }
  return { digest, entries };
}

function fault(sentence, path = ["weights", "uri"]) {
  return new DocumentError(sentence, path);
}

/** @returns {Record<string, {dtype: string, shape: number[], data: Uint8Array}>} */
function readSafetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 8 ? Infinity : Number(view.getBigUint64(0, true));
  if (length > bytes.length - 8) throw fault("the weights file ends within its header");
  const data = bytes.subarray(8 + length);
  try {
    if (bytes[8] !== 0x7b) throw fault("expected an object at the beginning");
    return readHeader(new Item(parse(decodeText(bytes.subarray(8, 8 + length))), []), data);
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    const { pointer, message } = error;
    throw fault(`the header of the weights file is at fault${pointer && ` at ${pointer}`}: ${message}`);
  }
}

function readHeader(header, data) {
  const tensors = Object.create(null);
  const ranges = [];
  for (const [name, item] of header.entries()) {
    if (name === "__metadata__") {
      for (const [, text] of item.entries()) text.string();
      continue;
    }
    item.object(["dtype", "shape", "data_offsets"], [], true);
    const dtype = item.get("dtype").oneOf(Object.keys(STORED_BYTES));
    const shape = item.get("shape").list().map((extent) => extent.integer(0));
    const offsets = item.get("data_offsets").list().map((offset) => offset.integer(0, data.length));
    const [begin, end] = offsets;
    if (offsets.length !== 2 || end - begin !== product(shape) * STORED_BYTES[dtype]) {
      item.get("data_offsets").fail(`expected the begin and end of ${product(shape)} elements of ${dtype}`);
    }
    ranges.push([begin, end]);
    tensors[name] = { dtype, shape, data: data.subarray(begin, end) };
  }
  ranges.sort(([a, b], [c, d]) => a - c || b - d);
  let covered = 0;
  for (const [begin, end] of ranges) {
    if (begin !== covered) header.fail(`tensors overlap, or leave a hole at byte ${covered}`);
    covered = end;
  }
  if (covered !== data.length) header.fail(`bytes follow the last tensor, which ends at byte ${covered}`);
  return tensors;
}

/** The bytes of the entries that exist, checked against the parameter. */
function readEntries(name, { dtype, shape, mask }, tensor, layout) {
  const path = ["parameters", name];
  const { kind, bits, stored } = DTYPES[dtype];
  const count = mask?.nnz ?? product(shape);
  const expected = layout === "dense" ? [...shape] : [count];
  if (dtype === "complex128") expected.push(2);
  if (tensor.dtype !== stored) throw fault(`the weights file holds ${tensor.dtype} instead of ${stored}`, path);
  if (String(tensor.shape) !== String(expected) || tensor.shape.length !== expected.length) {
    throw fault(`the weights file holds the shape [${tensor.shape}] instead of [${expected}]`, path);
  }
  const width = Math.ceil(bits / 8);
  const largest = kind === "bool" ? 1 : bits < 8 ? 2 ** bits - 1 : 255;
  if (largest < 255 && tensor.data.some((byte) => byte > largest)) {
    throw fault(`the weights file holds a byte that is no ${dtype}`, path);
  }
  if (layout === "values" || mask === undefined || count === product(shape)) return tensor.data;
  const entries = new Uint8Array(count * width);
  let from = 0;
  let to = 0;
  const skip = (end) => {
    for (; from < end; from++) if (tensor.data[from] !== 0) throw fault("an entry that does not exist is not 0", path);
  };
  for (const index of mask.indices()) {
    skip(index * width);
    while (from < (index + 1) * width) entries[to++] = tensor.data[from++];
  }
  skip(tensor.data.length);
  return entries;
}

/** Order by code point; that of JavaScript is by UTF-16 code unit. */
function compareCodePoints(a, b) {
  const [left, right] = [Array.from(a, (c) => c.codePointAt(0)), Array.from(b, (c) => c.codePointAt(0))];
  const i = left.findIndex((code, position) => code !== right[position]);
  return i === -1 ? left.length - right.length : left[i] - (right[i] ?? -1);
}
