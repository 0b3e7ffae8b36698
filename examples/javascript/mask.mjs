/** Masks: which entries of a parameter exist. Decodes every encoding of docs/format.md into bits. */

import { canonical, checkDigest, digestText, sha256 } from "./digest.mjs";

/** Which entries of an array exist. */
export class Mask {
  #bits;
  #digest;

  /**
   * @param {number[]} shape
   * @param {number} nnz number of entries that exist
   * @param {Uint8Array | null} bits as {@link bits}; null if all entries exist
   */
  constructor(shape, nnz, bits) {
    this.shape = shape;
    this.nnz = nnz;
    this.#bits = bits;
  }

  /** Number of entries. */
  get size() {
    return product(this.shape);
  }

  /** @returns {Uint8Array} a bit an entry in row-major order, the least significant bit of a byte first */
  get bits() {
    this.#bits ??= setBits(emptyBits(this.size), 0, this.size);
    return this.#bits;
  }

  /** Whether the entry at some coordinates, one for each dimension, exists. */
  has(...coordinates) {
    const inside = coordinates.every((c, axis) => Number.isInteger(c) && c >= 0 && c < this.shape[axis]);
    if (coordinates.length !== this.shape.length || !inside) {
      throw new RangeError(`[${coordinates}] is no entry of shape [${this.shape}]`);
    }
    return getBit(this.bits, ravel(coordinates, this.shape));
  }

  /** Row-major indices of the entries that exist, ascending. */
  *indices() {
    for (const [position, byte] of this.bits.entries()) {
      for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) yield position * 8 + bit;
    }
  }

  /** @returns {Promise<string>} the mask's digest */
  async digest() {
    this.#digest ??= digestText(await sha256("deepstruct.mask.v1\0", canonical(this.shape), "\0", this.bits));
    return this.#digest;
  }
}

/**
 * Reads the `mask` of a parameter.
 * @param {import("./item.mjs").Item} item
 * @param {number[]} shape of the parameter
 * @returns {Promise<{mask: Mask, others: object}>} `others`: members that stay in the normal form
 */
export async function readMask(item, shape) {
  const others = item.object(
    ["nnz", "encoding"],
    ["indices", "data", "compression", "block_shape", "sparsity_structure", "digest"],
  );
  const encoding = item.get("encoding").oneOf(["full", "coo", "bitmap", "delta-varint"]);
  checkMembers(item, encoding);
  const size = product(shape);
  const nnz = item.get("nnz").integer(0, size);
  const blocks = readBlocks(item.get("block_shape"), shape);
  const grid = shape.map((extent, axis) => extent / blocks[axis]);
  const block = size === 0 ? 1 : product(blocks);
  if (nnz % block !== 0) item.get("nnz").fail(`${nnz} is no multiple of the ${block} entries of a block`);

  const decoders = { full: decodeFull, coo: decodeCoo, bitmap: decodeBitmap, "delta-varint": decodeVarint };
  const { count, bits } = await decoders[encoding](item, grid, nnz / block);
  if (count * block !== nnz) item.get("nnz").fail(`nnz is ${nnz}, but ${count * block} entries exist`);
  const mask = new Mask(shape, nnz, nnz === size ? null : expand(bits, grid, blocks, shape));

  if (item.get("sparsity_structure")) {
    others.sparsity_structure = readSparsityStructure(item.get("sparsity_structure"), mask);
  }
  if (item.get("digest")) checkDigest(item.get("digest"), await mask.digest());
  return { mask, others };
}

function checkMembers(item, encoding) {
  const packed = encoding === "bitmap" || encoding === "delta-varint";
  for (const [name, needed] of [["indices", encoding === "coo"], ["data", packed]]) {
    if (needed && !item.get(name)) item.fail(`the encoding "${encoding}" needs the member "${name}"`);
    if (!needed) item.get(name)?.fail(`"${name}" does not belong to the encoding "${encoding}"`);
  }
  if (!packed) item.get("compression")?.fail('"compression" stands beside "data" only');
}

function readBlocks(item, shape) {
  if (item === undefined) return shape.map(() => 1);
  const blocks = item.list();
  if (blocks.length !== shape.length) item.fail(`expected ${shape.length} edge lengths, found ${blocks.length}`);
  return blocks.map((edge, axis) => {
    if (shape[axis] % edge.integer(1) !== 0) edge.fail(`${edge.value} is no divisor of ${shape[axis]}`);
    return edge.value;
  });
}

function decodeFull(item, grid) {
  return { count: product(grid), bits: null };
}

function decodeCoo(item, grid) {
  const rows = item.get("indices").list();
  const bits = emptyBits(product(grid));
  let last = -1;
  for (const row of rows) {
    const coordinates = row.list();
    if (coordinates.length !== grid.length) row.fail(`expected ${grid.length} coordinates`);
    const index = ravel(coordinates.map((c, axis) => checkCoordinate(c, grid[axis])), grid);
    if (index <= last) row.fail("the coordinates are not in ascending order, each once");
    setBit(bits, index);
    last = index;
  }
  return { count: rows.length, bits };
}

function checkCoordinate(item, extent) {
  if (item.integer(0) >= extent) item.fail(`the coordinate ${item.value} is not within the extent ${extent}`);
  return item.value;
}

async function decodeBitmap(item, grid) {
  const size = product(grid);
  const length = Math.ceil(size / 8);
  const bits = await payload(item, length);
  const data = item.get("data");
  if (bits.length !== length) data.fail(`the bitmap has ${bits.length} bytes; ${size} entries need ${length}`);
  if (size % 8 !== 0 && bits[length - 1] >> size % 8 !== 0) data.fail("bits behind the last entry are set");
  return { count: countBits(bits), bits };
}

async function decodeVarint(item, grid, nnz) {
  const size = product(grid);
  const bytes = await payload(item, nnz + Math.floor(size / 127) + 9);
  const data = item.get("data");
  const bits = emptyBits(size);
  let count = 0;
  let position = -1;
  let number = 0;
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    number += (byte & 127) * 2 ** (7 * length++);
    if (byte & 128) {
      if (length === 9) data.fail("a number takes more than 9 bytes");
      continue;
    }
    if (byte === 0 && length > 1) data.fail("a number is not in its shortest form");
    position += number + 1;
    if (position >= size) data.fail(`an index lies behind the ${size} entries`);
    setBit(bits, position);
    count++;
    number = 0;
    length = 0;
  }
  if (length > 0) data.fail("the last number does not end");
  return { count, bits };
}

/** The bytes of an encoding. Inflates little more than `most` bytes, as a short text can stand for very many. */
async function payload(item, most) {
  const data = item.get("data");
  const bytes = decodeBase64(data);
  if ((item.get("compression")?.oneOf(["none", "deflate"]) ?? "none") === "none") return bytes;
  const inflated = await inflate(bytes, most);
  if (inflated === null) data.fail("the payload is no zlib stream, or bytes follow it");
  if (inflated.length > most) data.fail(`the payload inflates to more than the ${most} bytes that it can have`);
  // Some engines ignore what follows a stream; if it ends with the last byte, it is broken without that byte.
  if ((await inflate(bytes.subarray(0, -1), most)) !== null) data.fail("bytes follow the zlib stream");
  return inflated;
}

/** @returns {Promise<Uint8Array | null>} the content, cut behind `most` bytes; null if there is no whole stream */
async function inflate(bytes, most) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const chunks = [];
  let length = 0;
  try {
    while (length <= most) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      length += value.length;
    }
    if (length > most) await reader.cancel();
  } catch {
    return null;
  }
  const content = new Uint8Array(length);
  for (const chunk of chunks.reverse()) content.set(chunk, (length -= chunk.length));
  return content;
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const SIXTETS = new Uint8Array(128).fill(255);
for (const [value, letter] of [...ALPHABET].entries()) SIXTETS[letter.charCodeAt(0)] = value;

/**
 * Bytes of base64 (RFC 4648 section 4) with padding, without white space, and with unused bits 0. atob() is laxer.
 * @param {import("./item.mjs").Item} item
 */
export function decodeBase64(item) {
  const text = item.string();
  if (text.length % 4 !== 0) item.fail("the length of base64 is no multiple of 4");
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let bits = 0;
  let position = 0;
  for (let i = 0; i < text.length - padding; i++) {
    const sixtet = SIXTETS[text.charCodeAt(i)] ?? 255;
    if (sixtet === 255) item.fail(`character ${i + 1} is none of base64`);
    bits = ((bits << 6) | sixtet) & 0xffffff;
    if (i % 4 > 0) bytes[position++] = bits >> (6 - 2 * (i % 4));
  }
  const unused = padding === 2 ? 15 : padding === 1 ? 3 : 0;
  if (bits & unused) item.fail("unused bits at the end of base64 are set");
  return bytes;
}

/** Bits at the full size from those of the grid. */
function expand(bits, grid, blocks, shape) {
  if (bits === null || blocks.every((edge) => edge === 1)) return bits;
  const full = emptyBits(product(shape));
  const [width, edge] = [grid.at(-1), blocks.at(-1)];
  const outer = shape.slice(0, -1);
  const coordinates = outer.map(() => 0);
  const rows = product(outer);
  for (let row = 0; row < rows; row++) {
    let cell = 0;
    for (let axis = 0; axis < outer.length; axis++) {
      cell = cell * grid[axis] + Math.floor(coordinates[axis] / blocks[axis]);
    }
    for (let column = 0; column < width; column++) {
      if (getBit(bits, cell * width + column)) setBits(full, (row * width + column) * edge, edge);
    }
    for (let axis = outer.length - 1; axis >= 0 && ++coordinates[axis] === outer[axis]; axis--) coordinates[axis] = 0;
  }
  return full;
}

/** Checks the claim that along an axis each group of m consecutive entries has at most n that exist. */
function readSparsityStructure(item, mask) {
  const others = item.object(["type", "n", "m", "axis"]);
  item.get("type").oneOf(["n:m"]);
  const m = item.get("m").integer(1);
  const n = item.get("n").integer(1, m);
  const axis = item.get("axis").integer(0, mask.shape.length - 1);
  const extent = mask.shape[axis];
  if (extent % m !== 0) item.get("m").fail(`the extent ${extent} of axis ${axis} is no multiple of ${m}`);
  const inner = product(mask.shape.slice(axis + 1));
  for (let group = 0; n < m && group < mask.size / m; group++) {
    const start = Math.floor(group / inner) * inner * m + (group % inner);
    let kept = 0;
    for (let i = 0; i < m; i++) kept += getBit(mask.bits, start + i * inner);
    if (kept > n) item.fail(`${kept} of ${m} entries exist from [${unravel(start, mask.shape)}] on; the claim is ${n}`);
  }
  return { ...others, type: "n:m", n, m, axis };
}

/** Number of entries of a shape. */
export function product(shape) {
  return shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1);
}

function ravel(coordinates, shape) {
  return coordinates.reduce((index, coordinate, axis) => index * shape[axis] + coordinate, 0);
}

function unravel(index, shape) {
  const coordinates = shape.map(() => 0);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    coordinates[axis] = index % shape[axis];
    index = Math.floor(index / shape[axis]);
  }
  return coordinates;
}

// Bit operators keep 32 bits: an index can be larger, so it is divided first; its low bits are kept.

function emptyBits(size) {
  return new Uint8Array(Math.ceil(size / 8));
}

function getBit(bits, index) {
  return ((bits[(index / 8) >>> 0] >> (index & 7)) & 1) === 1;
}

function setBit(bits, index) {
  bits[(index / 8) >>> 0] |= 1 << (index & 7);
}

function setBits(bits, start, count) {
  const end = start + count;
  let index = start;
  while (index < end && index % 8 !== 0) setBit(bits, index++);
  const whole = Math.floor((end - index) / 8);
  bits.fill(255, index / 8, index / 8 + whole);
  for (index += 8 * whole; index < end; index++) setBit(bits, index);
  return bits;
}

const BITS_OF_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

function countBits(bits) {
  let count = 0;
  for (let i = 0; i < bits.length; i++) count += BITS_OF_BYTE[bits[i]];
  return count;
}
