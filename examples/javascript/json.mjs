/**
 * The JSON profile of structure documents: a parser that keeps what JSON.parse loses, and says where a fault is.
 *
 * Objects become objects without a prototype, so that every name is only a name. A number written as an integer within
 * ±(2^53 − 1) becomes a number, any other a {@link Double}.
 */

/** What a reader accepts by default: `elements` of one mask, and of all masks together. `depth` cannot be raised. */
export const LIMITS = Object.freeze({
  bytes: 2 ** 29,
  depth: 64,
  values: 5_000_000,
  elements: 2 ** 28,
  allElements: 2 ** 30,
});

/** What is wrong with a document, and where: a JSON pointer, and the 1-based line and column in code points. */
export class DocumentError extends Error {
  name = "DocumentError";
  /** @type {number | undefined} */
  line;
  /** @type {number | undefined} */
  column;

  /**
   * @param {string} sentence
   * @param {(string | number)[]} path names and indices that lead from the root to the value
   */
  constructor(sentence, path = []) {
    super(sentence);
    this.path = path;
    this.pointer = pointer(path);
  }

  /** Adds the place of an offset of the text. */
  at(text, offset) {
    let start = 0;
    this.line = 1;
    for (let end = text.indexOf("\n"); end !== -1 && end < offset; end = text.indexOf("\n", start)) {
      this.line++;
      start = end + 1;
    }
    this.column = 1;
    for (const _ of text.slice(start, offset)) this.column++;
    return this;
  }

  /** Adds the place of the value that the path leads to. The text must be one that {@link parse} accepts. */
  locate(text, limits = LIMITS) {
    const parser = new Parser(text, limits, this.path);
    parser.parse();
    return this.at(text, parser.found ?? 0);
  }
}

/** A number that is no integer of the profile: one with fraction or exponent, or one beyond ±(2^53 − 1). */
export class Double {
  /** @param {number} value */
  constructor(value) {
    this.value = value;
  }
}

/** The JSON pointer (RFC 6901) of a path. */
export function pointer(path) {
  return path.map((key) => `/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/**
 * The text of a document.
 * @param {Uint8Array} bytes
 * @throws {DocumentError} if it is too long, begins with a byte order mark, or is no UTF-8
 */
export function decodeText(bytes, limits = LIMITS) {
  if (bytes.length > limits.bytes) {
    throw new DocumentError(`the text has ${bytes.length} bytes; the limit is ${limits.bytes}`).at("", 0);
  }
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw new DocumentError("the text begins with a byte order mark").at("", 0);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const before = textBeforeFault(bytes);
    throw new DocumentError("the text is no valid UTF-8").at(before, before.length);
  }
}

/** Bisects for the longest beginning of the bytes that may continue as UTF-8. */
function textBeforeFault(bytes) {
  const beginning = (length) =>
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, length), { stream: true });
  let [good, bad] = [0, bytes.length + 1];
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    try {
      beginning(middle);
      good = middle;
    } catch {
      bad = middle;
    }
  }
  return beginning(good);
}

/**
 * The value that a text holds.
 * @param {string} text
 * @throws {DocumentError} if it is no JSON of the profile or exceeds a limit
 */
export function parse(text, limits = LIMITS) {
  return new Parser(text, limits).parse();
}

const MORE = Symbol("another value follows");
const WORDS = { t: ["true", true], f: ["false", false], n: ["null", null] };

/** Holds what is open on a stack of its own, so that no depth of nesting exhausts that of the engine. */
class Parser {
  /** @param {(string | number)[]} [target] path of a value whose offset is to be `found` */
  constructor(text, limits, target) {
    this.text = text;
    this.limits = limits;
    this.target = target;
    this.offset = 0;
    this.count = 0;
    /** @type {{into: object | any[], end: string, key: string | number | undefined}[]} */
    this.stack = [];
  }

  parse() {
    let value;
    do {
      value = this.begin();
      while (value !== MORE && this.stack.length > 0) value = this.finish(value);
    } while (value === MORE);
    this.skipSpace();
    if (this.offset < this.text.length) this.fail("the text goes on behind the document");
    return value;
  }

  /** @returns a scalar, an empty container, or MORE inside of one that holds something */
  begin() {
    this.skipSpace();
    if (++this.count > this.limits.values) this.fail(`more than ${this.limits.values} values`);
    if (this.target?.length === this.stack.length && this.stack.every(({ key }, i) => key === this.target[i])) {
      this.found ??= this.offset;
    }
    const character = this.text[this.offset];
    if (character !== "{" && character !== "[") return this.scalar();
    if (this.stack.length === Math.min(this.limits.depth, LIMITS.depth)) {
      this.fail(`more than ${this.stack.length} levels of nesting`);
    }
    const frame =
      character === "{"
        ? { into: Object.create(null), end: "}", key: undefined }
        : { into: [], end: "]", key: undefined };
    this.offset++;
    this.skipSpace();
    if (this.text[this.offset] === frame.end) {
      this.offset++;
      return frame.into;
    }
    this.stack.push(frame);
    this.nextKey(frame);
    return MORE;
  }

  /** Puts a value into its container. @returns MORE, or the container if that was its last value */
  finish(value) {
    const frame = this.stack.at(-1);
    frame.into[frame.key] = value;
    this.skipSpace();
    const character = this.text[this.offset];
    if (character !== "," && character !== frame.end) this.fail(`expected "," or "${frame.end}"`);
    this.offset++;
    if (character === ",") {
      this.nextKey(frame);
      return MORE;
    }
    return this.stack.pop().into;
  }

  nextKey(frame) {
    if (frame.end === "]") {
      frame.key = frame.into.length;
      return;
    }
    frame.key = undefined;
    this.skipSpace();
    const start = this.offset;
    if (this.text[start] !== '"') this.fail("expected the name of a member in double quotes");
    frame.key = this.string();
    if (frame.key in frame.into) this.fail(`a second member has the name ${show(frame.key)}`, start);
    this.skipSpace();
    if (this.text[this.offset] !== ":") this.fail('expected ":" behind the name of a member');
    this.offset++;
  }

  scalar() {
    const character = this.text[this.offset];
    if (character === '"') return this.string();
    if (character === "-" || isDigit(character)) return this.number();
    const [word, value] = WORDS[character] ?? [];
    if (word === undefined || !this.text.startsWith(word, this.offset)) this.fail("expected a JSON value");
    this.offset += word.length;
    return value;
  }

  string() {
    const start = this.offset++;
    let isPlain = true;
    for (;;) {
      const code = this.text.charCodeAt(this.offset);
      if (Number.isNaN(code)) this.fail("a string does not end", start);
      if (code < 0x20) this.fail("a string holds a control character that is not escaped");
      if (code === 0x22) break;
      if (code === 0x5c) {
        isPlain = false;
        this.skipEscape();
      } else {
        this.offset++;
      }
    }
    const token = this.text.slice(start, ++this.offset);
    const value = isPlain ? token.slice(1, -1) : JSON.parse(token);
    if (/\p{Surrogate}/u.test(value)) this.fail("a string holds half of a surrogate pair", start);
    return value;
  }

  skipEscape() {
    const letter = this.text[this.offset + 1];
    if (letter === undefined || !'"\\/bfnrtu'.includes(letter)) this.fail("an unknown escape in a string");
    if (letter === "u" && !/^[0-9a-fA-F]{4}$/.test(this.text.slice(this.offset + 2, this.offset + 6))) {
      this.fail("expected four hexadecimal digits behind \\u");
    }
    this.offset += letter === "u" ? 6 : 2;
  }

  number() {
    const start = this.offset;
    if (this.text[this.offset] === "-") this.offset++;
    if (this.text[this.offset] === "0") this.offset++;
    else this.digits();
    let integer = true;
    if (this.text[this.offset] === ".") {
      integer = false;
      this.offset++;
      this.digits();
    }
    if (this.text[this.offset] === "e" || this.text[this.offset] === "E") {
      integer = false;
      this.offset++;
      if (this.text[this.offset] === "+" || this.text[this.offset] === "-") this.offset++;
      this.digits();
    }
    const value = Number(this.text.slice(start, this.offset));
    if (!Number.isFinite(value)) this.fail("a number is larger than any double", start);
    return integer && Number.isSafeInteger(value) ? value : new Double(value);
  }

  digits() {
    if (!isDigit(this.text[this.offset])) this.fail("expected a digit");
    while (isDigit(this.text[this.offset])) this.offset++;
  }

  skipSpace() {
    for (;;) {
      const code = this.text.charCodeAt(this.offset);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.offset++;
    }
  }

  fail(sentence, offset = this.offset) {
    const path = this.stack.map(({ key }) => key).filter((key) => key !== undefined);
    throw new DocumentError(sentence, path).at(this.text, offset);
  }
}

function isDigit(character) {
  return character >= "0" && character <= "9";
}

/** A value as a sentence shows it. */
export function show(value) {
  if (value instanceof Double) return `the double ${value.value}`;
  if (Array.isArray(value)) return "an array";
  if (value !== null && typeof value === "object") return "an object";
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
