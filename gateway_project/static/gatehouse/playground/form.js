// Fields for a JSON Schema. A field is `{element, read(), problems(), at(path), complain(message)}`: `read` gives its
// value, undefined where nothing is given; parents put the values of their fields together.

import { button, element, newId } from "./dom.js";
import { textField } from "./form-texts.js";
import { initial, isObject, isRequired, itemSchema, propertiesOf, SchemaProblem, shapeOf } from "./schema.js";
import { oneLine, visible } from "./text.js";
import { validate } from "./validate.js";

const MOST_FIELDS = 400;
const MOST_ROWS = 500;
const MOST_DEPTH = 24;
const MOVES = ".pg-item-tools button:enabled";

/** A form for the arguments of one tool. Throws SchemaProblem where none can be made. */
export class Form {
  #schema;
  #field;
  #run;

  constructor(schema) {
    this.#schema = schema;
    this.element = element("div", { class: "pg-fields" });
    this.set(initial(schema, schema) ?? {});
  }

  /** Show `value`, whoever made it. Throws SchemaProblem where no form can hold it. */
  set(value) {
    this.#run = { root: this.#schema, fields: 0 };
    this.#field = draw(this.#run, this.#schema, value, { required: true, depth: 0, top: true });
    this.element.replaceChildren(this.#field.element);
  }

  /** What is entered. */
  read() {
    return this.#field.read() ?? {};
  }

  /** Say what is wrong beside each field, and go to the first; true if nothing is. */
  check() {
    this.#field.clear();
    const errors = [...this.#field.problems([]), ...validate(this.#schema, this.#schema, this.read())];
    const said = new Set();
    let first = null;
    for (const { path, message } of errors) {
      const field = this.#field.at(path);
      if (said.has(field)) continue;
      said.add(field);
      field.complain(message);
      first ??= field;
    }
    first?.focus();
    return errors.length === 0;
  }
}

/** One field with its label, help and place for a complaint. */
function draw(run, given, value, place) {
  run.fields += 1;
  if (run.fields > MOST_FIELDS) throw new SchemaProblem("These arguments have too many fields for a form.");
  const shape = shapeOf(run.root, given);
  // Where a description goes on without end, and for values of another shape than described: JSON as text.
  const fits = value === undefined || value === null || { object: isObject(value), array: Array.isArray(value) }[shape.kind] !== false;
  const kind = place.depth > MOST_DEPTH || !fits ? "any" : shape.kind;
  const drawer = { object: objectField, array: arrayField, choice: choiceField }[kind];
  const makes = drawer ?? ((_run, one, now, about) => textField(one, now, about));
  const optional = drawer && kind !== "choice" && !place.top && (!place.required || shape.nullable);
  return optional ? optionalField(run, given, shape, value, place, drawer) : makes(run, { ...shape, kind }, value, place);
}

/** A part that is only there once somebody adds it; so descriptions that contain themselves end. */
function optionalField(run, given, shape, value, place, drawer) {
  const holder = element("div", { class: "pg-optional" });
  let inner = null;
  const name = place.label ? visible(place.label) : "value";
  const absent = () => (place.required && shape.nullable ? null : undefined);
  const error = complaint();
  function show(now) {
    inner = now === undefined || now === null ? null : drawer(run, shape, now, { ...place, name: undefined, required: true, remove: () => show(undefined) });
    if (inner) return holder.replaceChildren(inner.element);
    const add = button(`Add ${name}`, () => {
      try {
        show(initial(run.root, given, { required: true }) ?? (shape.kind === "array" ? [] : {}));
      } catch (problem) {
        if (!(problem instanceof SchemaProblem)) throw problem;
        return error.complain(problem.message);
      }
      inner.focus();
    }, { class: "small" });
    const text = help(shape.schema);
    holder.replaceChildren(...[add, text, error.element].filter(Boolean));
  }
  show(value);
  return {
    element: holder,
    read: () => (inner ? inner.read() : absent()),
    problems: (path) => (inner ? inner.problems(path) : []),
    at(path) { return inner ? inner.at(path) : this; },
    complain: (message) => (inner ? inner.complain(message) : error.complain(message)),
    clear: () => (inner ? inner.clear() : error.clear()),
    focus: () => (inner ? inner.focus() : holder.querySelector("button").focus()),
  };
}

function objectField(run, shape, value, place) {
  const { schema } = shape;
  const given = value ?? {};
  const fields = new Map();
  const error = complaint();
  const names = propertiesOf(schema);
  for (const [name, one] of names) {
    const required = isRequired(schema, name);
    const now = Object.hasOwn(given, name) ? given[name] : undefined;
    fields.set(name, draw(run, one, now, { label: titleOf(one, name), name, required, depth: place.depth + 1 }));
  }
  const known = new Set(names.map(([name]) => name));
  const others = Object.entries(given).filter(([name]) => !known.has(name));
  // Nearly every schema leaves other properties possible without meaning it; only one that says so gets the button.
  const { additionalProperties: said } = schema;
  const open = said === true || isObject(said) || (said === undefined && !names.length && !place.top);
  const more = open || others.length ? otherProperties(run, schema, others, place) : null;
  const inside = [...fields.values()].map((field) => field.element);
  if (!inside.length && !more) inside.push(element("p", { class: "muted" }, place.top ? "This tool takes no arguments." : "Nothing to enter."));
  const body = element("div", { class: "pg-fields" }, inside, more?.element, error.element);
  const outer = place.top || place.bare ? body : group(shape, place, body);
  return {
    element: outer,
    read() {
      const found = {};
      const put = (name, one) => one !== undefined && Object.defineProperty(found, name, { value: one, enumerable: true, configurable: true, writable: true });
      for (const [name, field] of fields) put(name, field.read());
      for (const [name, one] of more?.read() ?? []) put(name, one);
      return found;
    },
    problems: (path) => [...[...fields].flatMap(([name, field]) => field.problems([...path, name])), ...(more?.problems(path) ?? [])],
    at(path) { return path.length ? (fields.get(path[0])?.at(path.slice(1)) ?? more?.at(path) ?? this) : this; },
    complain: error.complain,
    clear: () => { error.clear(); for (const field of fields.values()) field.clear(); more?.clear(); },
    focus: () => focusFirst(outer),
  };
}

/** Properties that the schema does not name: a name and a value each. */
function otherProperties(run, schema, entries, place) {
  const rows = [];
  const list = element("div", { class: "pg-rows" });
  const valueSchema = isObject(schema.additionalProperties) ? schema.additionalProperties : {};
  function add(name, value) {
    const id = newId("name");
    const input = element("input", { id, type: "text", autocomplete: "off", spellcheck: "false" });
    input.value = name;
    const field = draw(run, valueSchema, value, { label: "Value", required: true, depth: place.depth + 1 });
    const row = { input, field };
    const remove = button("Remove", () => {
      rows.splice(rows.indexOf(row), 1);
      box.remove();
      addButton.focus();
    }, { class: "small quiet" });
    const box = element("div", { class: "pg-row" }, element("div", { class: "field" }, element("label", { for: id }, "Name"), input), field.element, remove);
    rows.push(row);
    list.append(box);
    return input;
  }
  entries.slice(0, MOST_ROWS).forEach(([name, value]) => add(name, value));
  const addButton = button("Add another property", () => rows.length < MOST_ROWS && add("", initial(run.root, valueSchema, {})).focus(), { class: "small" });
  return {
    element: element("div", { class: "pg-others" }, list, addButton),
    read: () => rows.filter((row) => row.input.value).map((row) => [row.input.value, row.field.read()]),
    problems: (path) => rows.flatMap((row) => row.field.problems([...path, row.input.value])),
    at: (path) => rows.find((row) => row.input.value === path[0])?.field.at(path.slice(1)),
    clear: () => rows.forEach((row) => row.field.clear()),
  };
}

function arrayField(run, shape, value, place) {
  const { schema } = shape;
  const items = [];
  const list = element("ol", { class: "pg-items" });
  const error = complaint();
  const most = Math.min(Number.isInteger(schema.maxItems) ? schema.maxItems : MOST_ROWS, MOST_ROWS);
  function put(values) {
    if (values.length > MOST_ROWS) throw new SchemaProblem(`A list of ${values.length} items is too long for a form.`);
    items.length = 0;
    values.forEach((one, i) => items.push(draw(run, itemSchema(schema, i), one, { label: `Item ${i + 1}`, required: true, depth: place.depth + 1 })));
    list.replaceChildren(...items.map((item, i) => element("li", { class: "pg-item" }, item.element, tools(i))));
    addButton.disabled = items.length >= most;
  }
  const now = () => items.map((item) => item.read());
  function change(edit, focus, what = "input, select, textarea, button") {
    const values = now();
    edit(values);
    run.fields -= items.length;
    put(values);
    (list.children[focus]?.querySelector(what) ?? addButton).focus();
  }
  function tools(i) {
    const name = `item ${i + 1}`;
    const swap = (values, other) => ([values[i], values[other]] = [values[other], values[i]]);
    return element("div", { class: "pg-item-tools" },
      button("↑", () => change((values) => swap(values, i - 1), i - 1, MOVES), { class: "small quiet", "aria-label": `Move ${name} up`, disabled: i === 0 }),
      button("↓", () => change((values) => swap(values, i + 1), i + 1, MOVES), { class: "small quiet", "aria-label": `Move ${name} down`, disabled: i === items.length - 1 }),
      button("Remove", () => change((values) => values.splice(i, 1), Math.max(0, i - 1)), { class: "small quiet", "aria-label": `Remove ${name}` }));
  }
  const addButton = button("Add item", () => {
    const i = items.length;
    change((values) => values.push(initial(run.root, itemSchema(schema, i))), i);
  }, { class: "small" });
  put(value ?? []);
  const outer = group(shape, place, element("div", { class: "pg-array" }, list, addButton, error.element));
  return {
    element: outer,
    read: () => now().map((one) => (one === undefined ? null : one)),
    problems: (path) => items.flatMap((item, i) => {
      const found = item.problems([...path, i]);
      return !found.length && item.read() === undefined ? [{ path: [...path, i], message: "Enter a value, or remove the item." }] : found;
    }),
    at(path) { return path.length ? (items[path[0]]?.at(path.slice(1)) ?? this) : this; },
    complain: error.complain,
    clear: () => { error.clear(); items.forEach((item) => item.clear()); },
    focus: () => focusFirst(outer),
  };
}

/** One of several shapes: a select, and the field of what is chosen. */
function choiceField(run, shape, value, place) {
  const { options, nullable } = shape;
  const id = newId("choice");
  const nothing = nullable ? "null" : place.required ? null : "Not given";
  const select = element("select", { id });
  if (nothing) select.append(element("option", { value: "" }, nothing));
  options.forEach((option, i) => select.append(element("option", { value: String(i) }, oneLine(option.label, 80))));
  const holder = element("div", { class: "pg-chosen" });
  const error = complaint();
  let inner = null;
  function show(now) {
    inner = null;
    holder.replaceChildren();
    if (select.value === "") return;
    const one = options[Number(select.value)].schema;
    inner = draw(run, one, now, { label: place.top ? "" : "Value", required: true, depth: place.depth + 1, top: place.top, bare: true });
    holder.append(inner.element);
  }
  const fitting = value === undefined ? -1 : options.findIndex((option) => !validate(run.root, option.schema, value).length);
  const close = fitting >= 0 ? fitting : options.findIndex((option) => typeFits(option.schema, value));
  const empty = value === undefined || (value === null && nullable);
  select.value = empty && nothing ? "" : String(Math.max(close, 0));
  show(value === undefined && !nothing ? initial(run.root, options[0].schema) : value ?? undefined);
  select.addEventListener("change", () => show(select.value === "" ? undefined : initial(run.root, options[Number(select.value)].schema)));
  const box = element("div", { class: "field" }, label(id, place), select, help(shape.schema), error.element);
  return {
    element: element("div", { class: "pg-choice" }, box, holder),
    read: () => (inner ? inner.read() : nullable && (place.required || value === null) ? null : undefined),
    problems: (path) => inner?.problems(path) ?? [],
    at(path) { return inner ? inner.at(path) : this; },
    complain: error.complain,
    clear: () => { error.clear(); inner?.clear(); },
    focus: () => select.focus(),
  };
}

function typeFits(schema, value) {
  const kind = Array.isArray(value) ? "array" : isObject(value) ? "object" : typeof value;
  return schema.type === kind || (schema.type === "integer" && kind === "number") || (kind === "object" && isObject(schema.properties));
}

function group(shape, place, body) {
  const name = place.label ? visible(place.label) : "";
  const legend = element("legend", {}, name, " ", mark(place));
  const remove = place.remove ? button("Remove", place.remove, { class: "small quiet", "aria-label": `Remove ${name}` }) : null;
  return element("fieldset", { class: "pg-group" }, legend, remove, help(shape.schema), body);
}

/** A label, with a mark when the field must be filled. */
export function label(id, place) {
  return place.label ? element("label", { for: id }, visible(place.label), " ", mark(place)) : null;
}

function mark(place) {
  return place.required && place.name !== undefined ? element("span", { class: "pg-required" }, "required") : null;
}

function help(schema) {
  return typeof schema.description === "string" && schema.description ? element("p", { class: "help" }, visible(schema.description.slice(0, 2_000))) : null;
}

function complaint() {
  const shown = element("p", { class: "errorlist", hidden: true, role: "alert" });
  return {
    element: shown,
    complain: (message) => { shown.textContent = message; shown.hidden = false; },
    clear: () => { shown.hidden = true; },
  };
}

function titleOf(given, name) {
  const title = isObject(given) ? given.title : null;
  if (typeof title !== "string" || !title) return oneLine(name, 120);
  const letters = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  return letters(title) === letters(name) ? oneLine(title, 80) : `${oneLine(title, 80)} (${oneLine(name, 60)})`;
}

function focusFirst(holder) {
  holder.querySelector("input, select, textarea, button")?.focus();
}
