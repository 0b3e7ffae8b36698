/** Dtypes, rounding of numbers to them, and tensors that stand in a document. */

import { product } from "./mask.mjs";

/**
 * @typedef {object} Dtype
 * @property {"bool" | "int" | "uint" | "float" | "complex" | "string"} kind
 * @property {number} bits of an element
 * @property {string} [stored] dtype in a safetensors file
 * @property {number} [mantissa] bits of a float behind its leading one
 * @property {number} [least] exponent of the smallest normal float
 * @property {number} [most] largest finite float
 * @property {string[]} [special] the non-finite floats that it has
 */

const ALL = ["NaN", "Infinity", "-Infinity"];

function float(bits, stored, mantissa, least, most, special) {
  return { kind: "float", bits, stored, mantissa, least, most, special };
}

/** @type {Readonly<Record<string, Dtype>>} */
export const DTYPES = Object.freeze({
  __proto__: null,
  bool: { kind: "bool", bits: 8, stored: "BOOL" },
  int2: { kind: "int", bits: 2, stored: "U8" },
  int4: { kind: "int", bits: 4, stored: "U8" },
  int8: { kind: "int", bits: 8, stored: "I8" },
  int16: { kind: "int", bits: 16, stored: "I16" },
  int32: { kind: "int", bits: 32, stored: "I32" },
  int64: { kind: "int", bits: 64, stored: "I64" },
  uint2: { kind: "uint", bits: 2, stored: "U8" },
  uint4: { kind: "uint", bits: 4, stored: "U8" },
  uint8: { kind: "uint", bits: 8, stored: "U8" },
  uint16: { kind: "uint", bits: 16, stored: "U16" },
  uint32: { kind: "uint", bits: 32, stored: "U32" },
  uint64: { kind: "uint", bits: 64, stored: "U64" },
  float16: float(16, "F16", 10, -14, 65504, ALL),
  float32: float(32, "F32", 23, -126, (2 - 2 ** -23) * 2 ** 127, ALL),
  float64: float(64, "F64", 52, -1022, Number.MAX_VALUE, ALL),
  bfloat16: float(16, "BF16", 7, -126, (2 - 2 ** -7) * 2 ** 127, ALL),
  float4_e2m1fn: float(4, "U8", 1, 0, 6, []),
  float6_e2m3fn: float(6, "U8", 3, 0, 7.5, []),
  float6_e3m2fn: float(6, "U8", 2, -2, 28, []),
  float8_e4m3fn: float(8, "F8_E4M3", 3, -6, 448, ["NaN"]),
  float8_e5m2: float(8, "F8_E5M2", 2, -14, 57344, ALL),
  float8_e4m3fnuz: float(8, "F8_E4M3FNUZ", 3, -7, 240, ["NaN"]),
  float8_e5m2fnuz: float(8, "F8_E5M2FNUZ", 2, -15, 57344, ["NaN"]),
  float8_e8m0fnu: float(8, "F8_E8M0", 0, -127, 2 ** 127, ["NaN"]),
  complex64: { kind: "complex", bits: 64, stored: "C64" },
  complex128: { kind: "complex", bits: 128, stored: "F64" },
  string: { kind: "string", bits: 0 },
});

/** The nearest float of a dtype, ties to even; what lies beyond the largest finite one stays as it is. */
function round(x, { mantissa, least }) {
  if (x === 0 || mantissa === 52) return x;
  let exponent = Math.floor(Math.log2(Math.abs(x)));
  if (2 ** exponent > Math.abs(x)) exponent--;
  if (2 ** (exponent + 1) <= Math.abs(x)) exponent++;
  const unit = 2 ** (Math.max(exponent, least) - mantissa);
  const scaled = x / unit;
  return (Math.abs(scaled % 1) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled)) * unit;
}

/**
 * A float of a document, rounded to its dtype.
 * @param {import("./item.mjs").Item} item a number, or the name of a non-finite float
 * @returns {number | string} as {@link Item.value}
 */
export function readFloat(item, dtype) {
  const { most, special } = DTYPES[dtype];
  if (!item.isNumber) return special.includes(item.value) ? item.value : item.expected(`a number of ${dtype}`);
  const number = item.plain();
  if (dtype === "float8_e8m0fnu") return readPowerOfTwo(item, number);
  const rounded = round(number, DTYPES[dtype]);
  if (Math.abs(rounded) <= most) return rounded;
  // A dtype that has no infinity or NaN to round to takes its largest number.
  return special.length === 0 ? Math.sign(rounded) * most : item.fail(`${number} is beyond the range of ${dtype}`);
}

/** A float8_e8m0fnu, which has neither sign nor zero. */
function readPowerOfTwo(item, number) {
  const { least, most } = DTYPES.float8_e8m0fnu;
  const rounded = Math.max(round(number, DTYPES.float8_e8m0fnu), 2 ** least);
  if (number <= 0 || rounded > most) item.fail(`${number} is beyond the range of float8_e8m0fnu`);
  return rounded;
}

/** A FLOAT of ONNX: a float32 as the shortest decimal that rounds to it, or the name of a non-finite one. */
export function readFloatAttribute(item) {
  const number = readFloat(item, "float32");
  return typeof number === "string" ? number : shortest(number);
}

/** The double whose decimal is the shortest that rounds to a float32; of two the nearer, or else the even one. */
function shortest(x) {
  const size = Math.abs(x);
  const [significand, exponent] = size.toExponential(100).split("e");
  const exact = significand.replace(".", "");
  for (let length = 1; ; length++) {
    const below = Number(exact.slice(0, length));
    const rest = exact.slice(length);
    const half = "5".padEnd(rest.length, "0");
    const isUpNearer = rest > half || (rest === half && below % 2 === 1);
    const candidates = isUpNearer ? [below + 1, below] : [below, below + 1];
    const good = candidates
      .map((integer) => Number(`${integer}e${exponent - length + 1}`))
      .find((candidate) => Math.fround(candidate) === size);
    if (good !== undefined) return Math.sign(x) * good;
  }
}

/**
 * An integer of a document.
 * @param {import("./item.mjs").Item} item an integer, or the decimal string of one
 * @returns {number | string} a string if it lies beyond ±(2^53 − 1)
 */
export function readInteger(item, dtype) {
  const { kind, bits } = DTYPES[dtype];
  if (typeof item.value === "string" && !/^-?(0|[1-9][0-9]{0,19})$/.test(item.value)) item.expected(`an ${dtype}`);
  const integer = BigInt(typeof item.value === "string" ? item.value : item.integer());
  if (integer !== (kind === "int" ? BigInt.asIntN(bits, integer) : BigInt.asUintN(bits, integer))) {
    item.fail(`${integer} is beyond the range of ${dtype}`);
  }
  return Number.isSafeInteger(Number(integer)) ? Number(integer) : String(integer);
}

/** The shape of a tensor or parameter. */
export function readShape(item) {
  const shape = item.list().map((extent) => extent.integer(0));
  if (shape.length > 64) item.fail(`${shape.length} dimensions; at most 64 are allowed`);
  if (product(shape.filter((extent) => extent > 0)) > 2 ** 48) item.fail("the product of the extents is above 2^48");
  return shape;
}

/**
 * A tensor in its normal form.
 * @param {import("./item.mjs").Item} item whose members have been checked
 * @returns {{dtype: string, shape: number[], data: (number | string | boolean)[]}}
 */
export function readTensor(item) {
  const dtype = item.get("dtype").oneOf(Object.keys(DTYPES));
  const { kind } = DTYPES[dtype];
  if (kind === "complex") item.get("dtype").fail(`a tensor in a document cannot be ${dtype}`);
  const shape = readShape(item.get("shape"));
  const elements = item.get("data").list();
  const most = kind === "string" ? 2 ** 20 : 1024;
  if (elements.length > most) item.get("data").fail(`${elements.length} elements; a tensor has at most ${most}`);
  if (elements.length !== product(shape)) {
    item.get("data").fail(`${elements.length} elements; the shape [${shape}] needs ${product(shape)}`);
  }
  const read = {
    bool: (element) => (typeof element.value === "boolean" ? element.value : element.expected("true or false")),
    string: (element) => element.string(),
    int: (element) => readInteger(element, dtype),
    uint: (element) => readInteger(element, dtype),
    float: (element) => readFloat(element, dtype),
  }[kind];
  return { dtype, shape, data: elements.map(read) };
}
