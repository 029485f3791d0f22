// Values against their schema, before anything is sent. Pure. It finds what people do wrong; what it does not know (if,
// not, formats it has no test for) is left to the server, which checks everything again.

import { isObject, isRequired, itemSchema, normal, patternTest, SchemaProblem } from "./schema.js";

const MOST_ERRORS = 50;
const MOST_STEPS = 50_000;
const MOST_DEPTH = 200;
const FORMATS = {
  email: [/^[^\s@]+@[^\s@]+$/, "Enter an e-mail address."],
  uri: [/^[a-z][a-z0-9+.-]*:\S*$/i, "Enter a whole address, such as https://example.com."],
  uuid: [/^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i, "Enter a UUID."],
  date: [/^\d{4}-\d\d-\d\d$/, "Enter a date, such as 2026-01-31."],
  time: [/^\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/i, "Enter a time, such as 09:30:00Z."],
  "date-time": [/^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/i, "Enter a date and time, such as 2026-01-31T09:30:00Z."],
  ipv4: [/^(\d{1,3}\.){3}\d{1,3}$/, "Enter an IPv4 address."],
};

/** What is wrong with `value`: `[{path, message}]`, the first of it first; empty when nothing is. */
export function validate(root, schema, value) {
  const run = { root, errors: [], steps: 0, depth: 0 };
  check(run, schema, value, []);
  return run.errors;
}

function check(run, given, value, path) {
  run.steps += 1;
  if (run.steps > MOST_STEPS || run.depth > MOST_DEPTH || run.errors.length >= MOST_ERRORS) return;
  const say = (message, at = path) => run.errors.push({ path: at, message });
  if (given === false) return say("Nothing may be given here.");
  let schema;
  try {
    schema = normal(run.root, given);
  } catch (error) {
    if (error instanceof SchemaProblem) return;
    throw error;
  }
  if (value === null && schema.nullable === true) return;
  if (Object.hasOwn(schema, "const") && !same(schema.const, value)) return say(`Must be ${JSON.stringify(schema.const)}.`);
  if (Array.isArray(schema.enum) && !schema.enum.some((one) => same(one, value))) return say("Choose one of the listed values.");
  const types = [schema.type].flat().filter((one) => typeof one === "string");
  if (types.length && !types.some((type) => isType(type, value))) return say(`Must be ${types.map(article).join(" or ")}.`);
  if (typeof value === "string") text(schema, value, say);
  if (typeof value === "number") number(schema, value, say);
  if (Array.isArray(value)) list(run, schema, value, path, say);
  if (isObject(value)) object(run, schema, value, path, say);
  for (const name of ["anyOf", "oneOf"]) {
    if (Array.isArray(schema[name]) && schema[name].length) alternatives(run, schema[name], value, path);
  }
}

/** The errors of the alternative that fits best, if none fits. */
function alternatives(run, options, value, path) {
  let best = null;
  for (const option of options) {
    const inner = { ...run, errors: [], depth: run.depth + 1 };
    check(inner, option, value, path);
    run.steps = inner.steps;
    if (!inner.errors.length) return;
    const depth = Math.max(...inner.errors.map((error) => error.path.length));
    if (!best || depth > best.depth || (depth === best.depth && inner.errors.length < best.errors.length)) best = { depth, errors: inner.errors };
    if (run.steps > MOST_STEPS) return;
  }
  run.errors.push(...best.errors);
}

function text(schema, value, say) {
  const length = [...value].length;
  if (length < schema.minLength) say(schema.minLength === 1 ? "Must not be empty." : `At least ${schema.minLength} characters.`);
  if (length > schema.maxLength) say(`At most ${schema.maxLength} characters; these are ${length}.`);
  if (typeof schema.pattern === "string" && patternTest(schema.pattern, value) === false) say(`Does not match the pattern ${schema.pattern.slice(0, 100)}`);
  const format = Object.hasOwn(FORMATS, schema.format ?? "") ? FORMATS[schema.format] : null;
  if (format && value.length < 2_000 && !format[0].test(value)) say(format[1]);
}

function number(schema, value, say) {
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) say("Too large to be sent exactly from a browser.");
  if (value < schema.minimum) say(`At least ${schema.minimum}.`);
  if (value > schema.maximum) say(`At most ${schema.maximum}.`);
  if (typeof schema.exclusiveMinimum === "number" && value <= schema.exclusiveMinimum) say(`More than ${schema.exclusiveMinimum}.`);
  if (typeof schema.exclusiveMaximum === "number" && value >= schema.exclusiveMaximum) say(`Less than ${schema.exclusiveMaximum}.`);
  if (schema.multipleOf > 0) {
    const times = value / schema.multipleOf;
    if (Math.abs(times - Math.round(times)) > 1e-9 * Math.max(1, Math.abs(times))) say(`A multiple of ${schema.multipleOf}.`);
  }
}

function list(run, schema, value, path, say) {
  if (value.length < schema.minItems) say(`At least ${schema.minItems} ${schema.minItems === 1 ? "item" : "items"}.`);
  if (value.length > schema.maxItems) say(`At most ${schema.maxItems} ${schema.maxItems === 1 ? "item" : "items"}.`);
  if (schema.uniqueItems && new Set(value.map((one) => JSON.stringify(one))).size < value.length) say("No item may be there twice.");
  value.forEach((one, i) => check(run, itemSchema(schema, i), one, [...path, i]));
}

function object(run, schema, value, path, say) {
  const properties = isObject(schema.properties) ? schema.properties : {};
  for (const name of Object.keys(properties)) {
    if (isRequired(schema, name) && !Object.hasOwn(value, name)) say("This is required.", [...path, name]);
    else if (Object.hasOwn(value, name)) check(run, properties[name], value[name], [...path, name]);
  }
  for (const name of Array.isArray(schema.required) ? schema.required : []) {
    if (!Object.hasOwn(properties, name) && !Object.hasOwn(value, name)) say(`“${name}” is required.`);
  }
  const patterns = Object.keys(isObject(schema.patternProperties) ? schema.patternProperties : {});
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(properties, name)) continue;
    const matching = patterns.filter((pattern) => patternTest(pattern, name) !== false);
    if (matching.length) matching.forEach((pattern) => check(run, schema.patternProperties[pattern], value[name], [...path, name]));
    else if (schema.additionalProperties === false) say(`“${name}” is not known here.`);
    else if (isObject(schema.additionalProperties)) check(run, schema.additionalProperties, value[name], [...path, name]);
  }
  const count = Object.keys(value).length;
  if (count < schema.minProperties) say(`At least ${schema.minProperties} properties.`);
  if (count > schema.maxProperties) say(`At most ${schema.maxProperties} properties.`);
}

function isType(type, value) {
  switch (type) {
    case "null": return value === null;
    case "array": return Array.isArray(value);
    case "object": return isObject(value);
    case "integer": return Number.isInteger(value);
    case "number": case "string": case "boolean": return typeof value === type;
    default: return true;
  }
}

function article(type) {
  return { integer: "a whole number", number: "a number", string: "a text", boolean: "true or false", array: "a list", object: "an object", null: "null" }[type] ?? type;
}

/** Whether two JSON values are equal, whatever the order of their names. */
export function same(one, other) {
  if (one === other) return true;
  if (one === null || other === null || typeof one !== "object" || typeof other !== "object") return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]));
}
