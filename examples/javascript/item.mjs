/** Values of a document that know where they stand, with access that refuses what is not of the type asked for. */

import { DocumentError, Double, pointer, show } from "./json.mjs";

const USER_LEVELS = 32;

/** A value of a document. */
export class Item {
  /**
   * @param {any} value as `parse` returns it
   * @param {{pointer: string, message: string}[]} warnings what this item and those inside it add to
   */
  constructor(value, warnings, parent = null, key = null) {
    this.value = value;
    this.warnings = warnings;
    this.parent = parent;
    this.key = key;
  }

  get path() {
    return this.parent === null ? [] : [...this.parent.path, this.key];
  }

  /** @returns {never} */
  fail(sentence) {
    throw new DocumentError(sentence, this.path);
  }

  expected(what) {
    return this.fail(`expected ${what}, found ${show(this.value)}`);
  }

  /**
   * Checks the members of an object. Each known one is read with {@link get}.
   * @param {boolean} [closed] whether members of other names are a fault
   * @returns {object} the members of other names, of which it warns
   */
  object(required, optional = [], closed = false) {
    const others = Object.create(null);
    for (const [name, item] of this.entries()) {
      if (required.includes(name) || optional.includes(name)) continue;
      if (closed) item.fail(`no member of the name ${show(name)} may stand here`);
      if (name === "extensions") item.entries();
      else this.warnings.push({ pointer: pointer(item.path), message: `the member ${show(name)} is unknown` });
      others[name] = item.userData();
    }
    for (const name of required) {
      if (!(name in this.value)) this.fail(`the member ${show(name)} is missing`);
    }
    return others;
  }

  get isObject() {
    return this.value !== null && typeof this.value === "object" && !Array.isArray(this.value) && !this.isNumber;
  }

  get isNumber() {
    return typeof this.value === "number" || this.value instanceof Double;
  }

  /** @returns {[string, Item][]} the members of an object */
  entries() {
    if (!this.isObject) this.expected("an object");
    return Object.keys(this.value).map((name) => [name, this.get(name)]);
  }

  /** @returns {Item | undefined} a member of an object, if it has one of that name */
  get(name) {
    return name in this.value ? new Item(this.value[name], this.warnings, this, name) : undefined;
  }

  /** @returns {Item[]} the elements of an array */
  list() {
    if (!Array.isArray(this.value)) this.expected("an array");
    return this.value.map((value, index) => new Item(value, this.warnings, this, index));
  }

  /** Refuses an array of strings in which one occurs twice. */
  distinct() {
    const seen = new Set();
    for (const item of this.list()) {
      if (seen.has(item.value)) item.fail(`${show(item.value)} occurs twice`);
      seen.add(item.value);
    }
  }

  /** @returns {string} */
  string() {
    return typeof this.value === "string" ? this.value : this.expected("a string");
  }

  /** @returns {string} a string that is not empty */
  name() {
    return this.string() || this.expected("a string that is not empty");
  }

  /** @returns {string} one of some strings */
  oneOf(strings) {
    if (!strings.includes(this.value)) {
      this.expected(strings.length > 8 ? "a name that docs/format.md lists" : strings.map(show).join(" or "));
    }
    return this.value;
  }

  /** @returns {number} an integer from `least` to `most` */
  integer(least = -Number.MAX_SAFE_INTEGER, most = Number.MAX_SAFE_INTEGER) {
    if (typeof this.value !== "number" || this.value < least || this.value > most) {
      this.expected(`an integer from ${least} to ${most}`);
    }
    return this.value;
  }

  /** The value as plain JSON. */
  plain() {
    if (this.isNumber) return Number(this.value.value ?? this.value);
    if (Array.isArray(this.value)) return this.list().map((item) => item.plain());
    if (!this.isObject) return this.value;
    const object = Object.create(null);
    for (const [name, item] of this.entries()) object[name] = item.plain();
    return object;
  }

  /** JSON of which this format says nothing, as plain JSON. */
  userData() {
    if (this.levels() > USER_LEVELS) this.fail(`more than ${USER_LEVELS} levels of arrays and objects`);
    return this.plain();
  }

  /** Number of levels of arrays and objects in the value. */
  levels() {
    if (!Array.isArray(this.value) && !this.isObject) return 0;
    const inner = Array.isArray(this.value) ? this.list() : this.entries().map(([, item]) => item);
    return 1 + inner.reduce((most, item) => Math.max(most, item.levels()), 0);
  }
}
