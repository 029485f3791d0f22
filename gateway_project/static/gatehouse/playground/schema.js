// JSON Schema as a form needs it. Pure: no elements here. A schema comes from a server, so nothing in it is trusted to
// end: references, depth, size and patterns have bounds, and what goes past them is said and left to the server.

const MOST_HOPS = 200;
const MOST_NESTED_CHOICES = 16;
const MOST_VALUES = 2_000;
const MOST_DEPTH = 8;
const MOST_CHARACTERS = 400_000;
const MOST_FILLED = 20;
const MOST_OPTIONS = 500;
const PATTERN_TEXT = 256;

/** What a schema is when no form can be made of it; the message is for people. */
export class SchemaProblem extends Error {}

/** Throw SchemaProblem if the whole schema is no object, or too large to be worked with in a page. */
export function checkSchema(root) {
  if (!isObject(root)) throw new SchemaProblem("The tool does not describe its arguments in a way that a form can be made of.");
  let characters;
  try {
    characters = JSON.stringify(root).length;
  } catch {
    throw new SchemaProblem("The description of the arguments is nested too deeply for a form.");
  }
  if (characters > MOST_CHARACTERS) throw new SchemaProblem("The description of the arguments is too large for a form.");
}

/**
 * `schema` without `$ref` and `allOf`: what they stand for is merged in. Only references inside `root` are followed.
 * Throws SchemaProblem for those that lead nowhere, elsewhere or in a circle.
 */
export function normal(root, schema, budget = { left: MOST_HOPS }) {
  if (schema === true || schema === undefined) return {};
  if (!isObject(schema)) throw new SchemaProblem("A part of the description of the arguments is not a schema.");
  // Counted over all branches: a few definitions that name each other twice would otherwise double without end.
  budget.left -= 1;
  if (budget.left < 0) throw new SchemaProblem("A reference in the description of the arguments leads in a circle, or too far.");
  let found = schema;
  if (typeof schema.$ref === "string") {
    const { $ref, ...beside } = schema;
    found = merged(normal(root, target(root, $ref), budget), beside);
  }
  if (Array.isArray(found.allOf)) {
    const { allOf, ...beside } = found;
    found = allOf.reduce((all, one) => merged(all, normal(root, one, budget)), beside);
  }
  return found;
}

function target(root, reference) {
  if (reference === "#") return root;
  if (!reference.startsWith("#/")) throw new SchemaProblem(`The reference ${reference.slice(0, 80)} leads out of the description of the arguments.`);
  let found = root;
  for (const part of reference.slice(2).split("/")) {
    let name = part;
    try {
      name = decodeURIComponent(part);
    } catch {
      // Not encoded: the name is as it stands.
    }
    name = name.replaceAll("~1", "/").replaceAll("~0", "~");
    if (found === null || typeof found !== "object" || !Object.hasOwn(found, name)) {
      throw new SchemaProblem(`The reference ${reference.slice(0, 80)} leads nowhere.`);
    }
    found = found[name];
  }
  return found;
}

function merged(one, other) {
  const both = { ...one, ...other };
  if (isObject(one.properties) && isObject(other.properties)) both.properties = { ...one.properties, ...other.properties };
  if (Array.isArray(one.required) && Array.isArray(other.required)) both.required = [...new Set([...one.required, ...other.required])];
  return both;
}

/**
 * What field stands for a schema: `{kind, schema, nullable, options}`.
 *
 * `kind`: const, enum, choice, object, array, string, number, integer, boolean, null, or any (JSON as text).
 * `options`: of a choice `[{label, schema}]`, of an enum `[{label, value}]`.
 */
export function shapeOf(root, given, nested = 0) {
  if (nested > MOST_NESTED_CHOICES) throw new SchemaProblem("A choice in the description of the arguments leads in a circle.");
  let schema = normal(root, given);
  let nullable = schema.nullable === true;
  if (Object.hasOwn(schema, "const")) return { kind: "const", schema, nullable: false, options: [] };
  if (Array.isArray(schema.enum)) {
    const options = schema.enum.slice(0, MOST_OPTIONS).map((value, i) => ({ label: labelOf(value, schema.enumNames?.[i]), value }));
    return schema.enum.length > MOST_OPTIONS ? { kind: "any", schema, nullable: false, options: [] } : { kind: "enum", schema, nullable: false, options };
  }
  const list = Array.isArray(schema.oneOf) ? "oneOf" : Array.isArray(schema.anyOf) ? "anyOf" : null;
  if (list && schema[list].length && schema[list].length <= MOST_OPTIONS) {
    const { [list]: all, ...base } = schema;
    const some = all.map((one) => normal(root, one));
    const real = some.filter((one) => one.type !== "null" && one.const !== null);
    nullable ||= real.length < some.length;
    if (real.length > 1 && real.every(isAnyNumber)) {
      schema = { ...base, type: "number" };
    } else if (real.length === 1) {
      schema = merged(base, real[0]);
      if (schema.oneOf || schema.anyOf || schema.enum || Object.hasOwn(schema, "const")) return { ...shapeOf(root, schema, nested + 1), nullable };
    } else if (real.length > 1 && real.every((one) => Object.hasOwn(one, "const"))) {
      const options = real.map((one) => ({ label: labelOf(one.const, one.title), value: one.const }));
      return { kind: "enum", schema: base, nullable, options };
    } else if (real.some((one) => one.type || one.properties || one.enum || one.oneOf || one.anyOf || one.items)) {
      const options = real.map((one, i) => {
        const { title: _, description: __, default: ___, ...beneath } = base;
        return { label: choiceLabel(root, one, i), schema: merged(beneath, one) };
      });
      return { kind: "choice", schema: base, nullable, options };
    }
  }
  let types = Array.isArray(schema.type) ? schema.type.filter((one) => typeof one === "string") : typeof schema.type === "string" ? [schema.type] : [];
  if (types.includes("null") && types.length > 1) {
    nullable = true;
    types = types.filter((one) => one !== "null");
  }
  if (types.includes("number")) types = types.filter((one) => one !== "integer");
  if (types.length > 1) {
    const options = types.map((type) => ({ label: type, schema: { ...schema, type, title: undefined, description: undefined, default: undefined } }));
    return { kind: "choice", schema, nullable, options };
  }
  const [type = isObject(schema.properties) ? "object" : schema.items || schema.prefixItems ? "array" : "any"] = types;
  const known = ["object", "array", "string", "number", "integer", "boolean", "null"].includes(type);
  return { kind: known ? type : "any", schema, nullable, options: [] };
}

/** A number without limits of its own: whole or not, one field takes both. */
function isAnyNumber(schema) {
  return ["integer", "number"].includes(schema.type) && Object.keys(schema).every((key) => ["type", "title", "description"].includes(key));
}

function labelOf(value, title) {
  if (typeof title === "string" && title) return title;
  return typeof value === "string" ? value : JSON.stringify(value);
}

function choiceLabel(root, schema, i) {
  if (typeof schema.title === "string" && schema.title) return schema.title;
  const named = Object.entries(isObject(schema.properties) ? schema.properties : {}).find(([, one]) => isObject(one) && typeof one.const === "string");
  if (named) return named[1].const;
  const type = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type;
  if (type === "object" || schema.properties) {
    const names = Object.keys(schema.properties ?? {}).slice(0, 3);
    return names.length ? `object with ${names.join(", ")}` : "object";
  }
  if (type === "array") return "list";
  return typeof type === "string" ? type : `option ${i + 1}`;
}

/** The value that a form begins with; undefined where nothing is given until somebody enters it. */
export function initial(root, given, { required = true, depth = 0, budget = { left: MOST_VALUES } } = {}) {
  budget.left -= 1;
  if (budget.left < 0) return undefined;
  const { kind, schema, nullable, options } = shapeOf(root, given);
  if (Object.hasOwn(schema, "default")) return structuredClone(schema.default);
  if (kind === "const") return required ? structuredClone(schema.const) : undefined;
  if (!required || depth > MOST_DEPTH) return undefined;
  if (nullable) return null;
  if (kind === "object") {
    const value = {};
    for (const [name, one] of propertiesOf(schema)) {
      const inner = initial(root, one, { required: isRequired(schema, name), depth: depth + 1, budget });
      if (inner !== undefined) Object.defineProperty(value, name, { value: inner, enumerable: true, writable: true, configurable: true });
    }
    return value;
  }
  if (kind === "array") {
    const count = Math.min(Number(schema.minItems) || 0, MOST_FILLED);
    return Array.from({ length: count }, (_, i) => initial(root, itemSchema(schema, i), { depth: depth + 1, budget })).filter((one) => one !== undefined);
  }
  if (kind === "choice") return initial(root, options[0].schema, { depth: depth + 1, budget });
  return { boolean: false, null: null }[kind];
}

/** Names and schemas of an object's properties, in their order. */
export function propertiesOf(schema) {
  return Object.entries(isObject(schema.properties) ? schema.properties : {});
}

/** Whether an object must have this property. */
export function isRequired(schema, name) {
  return Array.isArray(schema.required) && schema.required.includes(name);
}

/** The schema of an array's item at a place. */
export function itemSchema(schema, i) {
  if (Array.isArray(schema.prefixItems) && i < schema.prefixItems.length) return schema.prefixItems[i];
  if (Array.isArray(schema.items)) return schema.items[i] ?? schema.additionalItems ?? true;
  return schema.items ?? true;
}

/** The test of a text against a pattern from elsewhere; null for one that could keep the browser busy, or is wrong. */
export function patternTest(pattern, text) {
  // Nested repetition takes exponential time, and so does what looks back; the server checks those. The rest has few
  // open repetitions, so that time grows slowly with a text that is short.
  const plain = pattern.replace(/\\./g, "x").replace(/\[[^\]]*\]/g, "x");
  const open = (plain.match(/[*+]|\{\d*,\d*\}/g) ?? []).length;
  if (/\)[*+{]/.test(plain) || /\(\?(?!:)/.test(plain) || /\\[1-9k]/.test(pattern)) return null;
  if (open > (pattern.startsWith("^") ? 3 : 2) || pattern.length > 500 || text.length > PATTERN_TEXT) return null;
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return null;
  }
}

export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
