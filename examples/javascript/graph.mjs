/** Graphs, functions and nodes: reads them into their normal form, and checks that every name leads somewhere. */

import { show } from "./json.mjs";
import { decodeBase64 } from "./mask.mjs";
import { Scope } from "./scope.mjs";
import { DTYPES, readFloatAttribute, readInteger, readTensor } from "./tensor.mjs";

const SPECIFIED = ["", "ai.onnx.ml", "ai.onnx.preview"];
const LIST_KINDS = ["FLOATS", "INTS", "STRINGS", "TENSORS", "SPARSE_TENSORS", "GRAPHS", "TYPE_PROTOS"];
const KINDS = [...LIST_KINDS.map((kind) => kind.slice(0, -1)), ...LIST_KINDS];

/**
 * What nodes are read with.
 * @typedef {object} Context
 * @property {Scope} scope
 * @property {Record<string, number>} opset
 * @property {Set<string>} parameters names of parameters
 * @property {Set<string>} functions keys of the document's functions
 * @property {Set<string>} calls keys of the functions that are called
 * @property {string[] | null} references names of the attributes of the function that is read
 * @property {object | undefined} operators content of schemas/onnx-operators.json
 */

/**
 * The graph in its normal form.
 * @param {import("./item.mjs").Item} item
 * @param {import("./item.mjs").Item | undefined} parameters
 * @param {object | undefined} operators content of schemas/onnx-operators.json
 */
export function readGraph(item, parameters, operators) {
  const graph = item.object(["opset", "inputs", "outputs", "nodes"], ["name", "attributes", "constants", "functions"]);
  graph.name = item.get("name")?.name() ?? "main";
  graph.opset = readOpset(item.get("opset"));
  graph.attributes = readUserData(item.get("attributes"));

  const scope = new Scope(null);
  graph.inputs = item.get("inputs").list().map(readValue);
  for (const [index, input] of item.get("inputs").list().entries()) {
    if (!("dtype" in graph.inputs[index])) input.fail('an input of the graph needs a "dtype"');
    scope.define(graph.inputs[index].name, input.get("name"));
  }
  for (const [name, parameter] of parameters?.entries() ?? []) scope.define(nameOf(name, parameter), parameter);
  const constants = item.get("constants")?.entries() ?? [];
  for (const [name, constant] of constants) {
    scope.define(nameOf(name, constant), constant);
    constant.object(["dtype", "shape", "data"], [], true);
  }
  if (constants.length > 0) graph.constants = plainObject(constants, readTensor);

  const functions = item.get("functions")?.list() ?? [];
  const context = {
    scope,
    opset: graph.opset,
    parameters: new Set(parameters?.entries().map(([name]) => name)),
    functions: readFunctionKeys(functions),
    calls: new Set(),
    references: null,
    operators,
  };
  if (functions.length > 0) graph.functions = readFunctions(functions, context, constants);

  graph.nodes = readNodes(item.get("nodes"), context);
  graph.outputs = item.get("outputs").list().map(readValue);
  for (const output of item.get("outputs").list()) scope.use(output.value.name, output.get("name"));
  return graph;
}

function nameOf(name, item) {
  return name || item.fail("a name is empty");
}

function plainObject(entries, read) {
  const object = Object.create(null);
  for (const [name, item] of entries) object[name] = read(item);
  return object;
}

function readOpset(item) {
  return plainObject(item.entries(), (version) => {
    if (version.key === "ai.onnx") version.fail('the domain of ONNX itself is written ""');
    return version.integer(1, 2 ** 31 - 1);
  });
}

function readUserData(item) {
  if (item === undefined) return {};
  return plainObject(item.entries(), (value) => value.userData());
}

/** A graph input or output. */
function readValue(item) {
  const value = item.object(["name"], ["dtype", "shape", "containers"]);
  return Object.assign(value, { name: item.get("name").name() }, readType(item));
}

/** Members that values and types share. */
function readType(item) {
  const type = {};
  if (item.get("dtype")) type.dtype = item.get("dtype").oneOf(Object.keys(DTYPES));
  const shape = item.get("shape");
  type.shape = shape === undefined || shape.value === null ? null : shape.list().map(readDimension);
  const containers = item.get("containers")?.list() ?? [];
  if (containers.length > 0 && !type.dtype) item.get("containers").fail('containers need a "dtype" of what they hold');
  if (containers.length > 0) type.containers = containers.map((c, i) => readContainer(c, i === containers.length - 1));
  return type;
}

function readDimension(item) {
  if (item.value === null) return null;
  return typeof item.value === "string" ? item.name() : item.integer(0);
}

function readContainer(item, last) {
  const container = item.string();
  const key = container.startsWith("map:") ? DTYPES[container.slice(4)] : undefined;
  const isMap = key?.kind === "string" || (["int", "uint"].includes(key?.kind) && key.bits >= 8);
  const isKnown = isMap || container === "sequence" || container === "optional" || container === "sparse_tensor";
  if (!isKnown) item.expected('"sequence", "optional", "map:" and a dtype, or "sparse_tensor"');
  if (container === "sparse_tensor" && !last) item.fail('"sparse_tensor" stands at the end only');
  return container;
}

function functionKey(domain, name, overload) {
  return JSON.stringify([domain, name, overload]);
}

function keyOf(item) {
  const [domain, overload] = [item.get("domain").string(), item.get("overload")?.string() ?? ""];
  return functionKey(domain, item.get("name").name(), overload);
}

const FUNCTION_MEMBERS = [
  ["name", "domain", "opset", "inputs", "outputs", "nodes"],
  ["overload", "attributes", "defaults"],
];

function readFunctionKeys(items) {
  const keys = new Set();
  for (const item of items) {
    for (const name of FUNCTION_MEMBERS[0]) {
      if (!item.entries().some(([member]) => member === name)) item.fail(`the member ${show(name)} is missing`);
    }
    const key = keyOf(item);
    if (keys.has(key)) item.fail("a second function has this name, domain and overload");
    keys.add(key);
  }
  return keys;
}

function readFunctions(items, context, constants) {
  const document = new Set([...context.parameters, ...constants.map(([name]) => name)]);
  const calls = new Map();
  const functions = items.map((item) => {
    const inner = { ...context, scope: new Scope(null, document), calls: new Set() };
    calls.set(keyOf(item), inner.calls);
    return readFunction(item, inner);
  });
  const circular = circularKeys(calls);
  items.find((item) => circular.has(keyOf(item)))?.fail("a function calls itself, directly or by way of others");
  return functions;
}

/**
 * Takes away the functions that call none, then those that call only such, and so on; what is left calls itself.
 * @param {Map<string, Set<string>>} calls for each function, those that it calls
 */
function circularKeys(calls) {
  const callers = new Map([...calls.keys()].map((key) => [key, []]));
  const left = new Map();
  for (const [key, called] of calls) {
    left.set(key, called.size);
    for (const other of called) callers.get(other).push(key);
  }
  const done = [...left.keys()].filter((key) => left.get(key) === 0);
  for (const key of done) {
    left.delete(key);
    for (const caller of callers.get(key)) {
      left.set(caller, left.get(caller) - 1);
      if (left.get(caller) === 0) done.push(caller);
    }
  }
  return left;
}

function readFunction(item, context) {
  const result = item.object(...FUNCTION_MEMBERS);
  result.name = item.get("name").name();
  result.domain = item.get("domain").string();
  if (item.get("overload")?.string()) result.overload = item.get("overload").value;
  result.opset = context.opset = readOpset(item.get("opset"));
  const attributes = item.get("attributes")?.list().map((name) => name.name()) ?? [];
  item.get("attributes")?.distinct();
  const defaults = item.get("defaults")?.entries() ?? [];
  context.references = [...attributes, ...defaults.map(([name]) => name)];
  if (attributes.length > 0) result.attributes = attributes;

  result.inputs = item.get("inputs").list().map((input) => {
    context.scope.define(input.name(), input);
    return input.value;
  });
  result.nodes = readNodes(item.get("nodes"), context);
  result.outputs = item.get("outputs").list().map((output) => {
    if (!context.scope.owns(output.name())) output.fail("an output of a function is an input or an output of a node");
    return output.value;
  });
  for (const [name, user] of context.scope.borrowed) {
    if (context.scope.defined.has(name)) user.fail(`${show(name)} is used before the function defines it`);
  }
  if (defaults.length > 0) result.defaults = plainObject(defaults, (value) => readAttribute(value, null, context));
  return result;
}

function readNodes(item, context) {
  const names = new Set();
  return item.list().map((node) => {
    const result = readNode(node, context);
    if (names.has(result.name)) node.get("name").fail(`a second node has the name ${show(result.name)}`);
    names.add(result.name);
    return result;
  });
}

function readNode(item, context) {
  const node = item.object(["name", "op", "inputs", "outputs"], ["domain", "overload", "attributes", "scope"]);
  node.name = item.get("name").name();
  node.op = item.get("op").name();
  for (const member of ["domain", "overload", "scope"]) {
    if (item.get(member)?.string()) node[member] = item.get(member).value;
  }
  const domain = node.domain ?? "";
  if (!(domain in context.opset)) (item.get("domain") ?? item).fail(`the opset has no domain ${show(domain)}`);
  const key = functionKey(domain, node.op, node.overload ?? "");
  if (context.functions.has(key)) context.calls.add(key);

  node.inputs = item.get("inputs").list().map((input) => {
    if (input.string() !== "") context.scope.use(input.value, input);
    return input.value;
  });
  const specification = specificationOf(domain, node.op, context);
  const attributes = item.get("attributes")?.entries() ?? [];
  if (attributes.length > 0) {
    node.attributes = plainObject(attributes, (attribute) => {
      const type = specification && (specification[attribute.key]?.replace("!", "") ?? null);
      return readAttribute(attribute, type, context);
    });
  }
  node.outputs = item.get("outputs").list().map((output) => {
    if (output.string() !== "") context.scope.define(output.value, output);
    return output.value;
  });
  return node;
}

/** @returns types of an operator's attributes; null if it is in no specification, undefined if none is at hand */
function specificationOf(domain, op, { opset, operators }) {
  if (!SPECIFIED.includes(domain)) return null;
  if (operators === undefined) return undefined;
  const versions = operators.domains[domain] ?? {};
  const known = Object.hasOwn(versions, op) ? versions[op] : [];
  return known.findLast(({ since }) => since <= opset[domain])?.attributes ?? {};
}

/**
 * A node attribute in its normal form.
 * @param {import("./item.mjs").Item} item
 * @param {string | null | undefined} type that the operator's specification gives the attribute, null if there is none.
 *   If it is undefined, nobody knows: then a double is a FLOAT, and any float is one that the specification demands.
 */
function readAttribute(item, type, context) {
  if (item.isNumber) return readNumber(item, type);
  if (typeof item.value === "string") return item.value;
  if (Array.isArray(item.value)) return readList(item, type, context);
  if (item.isObject && item.get("type")) return readTyped(item, type, context);
  return item.expected("an attribute of a node");
}

function isFloat(items, type, kind) {
  return type === kind || (type === undefined && items.some((item) => typeof item.value !== "number"));
}

function readNumber(item, type) {
  return isFloat([item], type, "FLOAT") ? readFloatAttribute(item) : normalIntegers("int", item.integer());
}

function readList(item, type, context) {
  const items = readTypedList(item, type);
  if (items[0]?.isNumber) {
    for (const element of items) if (!element.isNumber) element.expected("a number");
    return isFloat(items, type, "FLOATS") ? items.map(readFloatAttribute) : items.map((element) => element.integer());
  }
  const kinds = items.map((element) => {
    if (typeof element.value === "string") return "bytes";
    return element.isObject && element.get("type") ? element.get("type").string() : element.expected("a list element");
  });
  const allowed = [["bytes"], ["tensor", "parameter"], ["sparse_parameter"], ["graph"], ["type"]];
  const family = allowed.find((family) => family.includes(kinds[0])) ?? [];
  return items.map((element, i) => {
    if (!family.includes(kinds[i])) element.fail(`a list that begins with ${show(kinds[0])} cannot hold this`);
    return typeof element.value === "string" ? element.value : readTyped(element, null, context);
  });
}

/** Elements of a list that says its type unless it is empty. */
function readTypedList(item, type) {
  const items = item.list();
  if (items.length === 0 && type === null) item.fail('an empty list is written {"type": "empty", "kind": ...} here');
  return items;
}

function readTyped(item, type, context) {
  const form = item.get("type").oneOf(Object.keys(FORMS));
  const [required, optional] = FORMS[form];
  if (form === "graph") return readBody(item, item.object(["type", ...required], optional), context);
  item.object(["type", ...required], optional, true);
  const value = item.get("value");
  switch (form) {
    case "int":
      return normalIntegers("int", readInteger(value, "int64"));
    case "ints":
      return normalIntegers("ints", readTypedList(value, type).map((element) => readInteger(element, "int64")));
    case "float":
      return normalFloats("float", readFloatAttribute(value), type);
    case "floats":
      return normalFloats("floats", readTypedList(value, type).map(readFloatAttribute), type);
    case "bytes":
      decodeBase64(value);
      return { type: form, value: value.value };
    case "tensor":
      return { type: form, ...readTensor(item) };
    case "parameter":
    case "sparse_parameter":
      if (!context.parameters.has(value.string())) value.fail(`there is no parameter ${show(value.value)}`);
      return { type: form, value: value.value };
    case "type":
      return { type: form, ...readType(item) };
    case "reference":
      if (context.references === null) item.fail("a reference stands in a function only");
      if (!context.references.includes(value.string())) value.fail("the function has no attribute of this name");
      return { type: form, kind: item.get("kind").oneOf(KINDS), value: value.value };
    case "empty":
      if (type) item.fail("the operator's specification gives the attribute a type: write []");
      return { type: form, kind: item.get("kind").oneOf(LIST_KINDS) };
  }
}

/** Members of the typed forms beside `type`: required, optional. */
const FORMS = {
  __proto__: null,
  int: [["value"], []],
  ints: [["value"], []],
  float: [["value"], []],
  floats: [["value"], []],
  bytes: [["value"], []],
  tensor: [["dtype", "shape", "data"], []],
  parameter: [["value"], []],
  sparse_parameter: [["value"], []],
  graph: [["inputs", "outputs", "nodes"], ["name"]],
  type: [[], ["dtype", "shape", "containers"]],
  reference: [["kind", "value"], []],
  empty: [["kind"], []],
};

function normalIntegers(form, value) {
  return [value].flat().some((integer) => typeof integer === "string") ? { type: form, value } : value;
}

function normalFloats(form, value, type) {
  const finite = [value].flat().every((float) => typeof float === "number");
  const specified = type === undefined || type === form.toUpperCase();
  return finite && specified ? value : { type: form, value };
}

/** A graph that is an attribute. */
function readBody(item, body, context) {
  const scope = new Scope(context.scope);
  body.type = "graph";
  body.name = item.get("name")?.name() ?? "main";
  body.inputs = item.get("inputs").list().map(readValue);
  for (const input of item.get("inputs").list()) scope.define(input.value.name, input.get("name"));
  body.nodes = readNodes(item.get("nodes"), { ...context, scope });
  body.outputs = item.get("outputs").list().map(readValue);
  for (const output of item.get("outputs").list()) {
    const name = output.get("name");
    if (!scope.owns(name.value)) name.fail("an output is an input of this graph or an output of one of its nodes");
  }
  return body;
}
