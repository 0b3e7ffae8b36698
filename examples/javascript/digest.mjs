/** Canonical JSON (RFC 8785) and SHA-256 digests as structure documents write them. */

// Node 18 has WebCrypto, but not yet as a global.
const { subtle } = globalThis.crypto ?? (await import("node:crypto")).webcrypto;

/** The canonical text of plain JSON. ECMAScript writes numbers and strings as RFC 8785 does. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  // sort() compares UTF-16 code units, as RFC 8785 demands
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

/**
 * The SHA-256 of parts, one behind the other.
 * @param {...(string | Uint8Array)} parts strings count as UTF-8
 * @returns {Promise<Uint8Array>} 32 bytes
 */
export async function sha256(...parts) {
  const blob = new Blob(parts);
  return new Uint8Array(await subtle.digest("SHA-256", await blob.arrayBuffer()));
}

/** A SHA-256 as documents write it. */
export function digestText(hash) {
  return `sha256:${Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Refuses a digest that is not of the form, or not that of the content.
 * @param {import("./item.mjs").Item | undefined} item what the document says, if it says anything
 * @param {string} actual
 */
export function checkDigest(item, actual) {
  if (item === undefined) return;
  if (!/^sha256:[0-9a-f]{64}$/.test(item.string())) item.expected('"sha256:" and 64 lower-case hexadecimal digits');
  if (item.value !== actual) item.fail(`the digest is not that of the content, ${actual}`);
}
