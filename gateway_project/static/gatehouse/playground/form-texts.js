// The fields without parts: texts, numbers, choices of values, and JSON for what has no field of its own.

import { element, newId } from "./dom.js";
import { oneLine, visible } from "./text.js";
import { same } from "./validate.js";

const INPUTS = { email: "text", uri: "text", date: "date", password: "password" };
const PLACEHOLDERS = { "date-time": "2026-01-31T09:30:00Z", time: "09:30:00Z", uri: "https://", email: "name@example.com", uuid: "00000000-0000-0000-0000-000000000000" };
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const CONTROLS = { const: constant, enum: list, boolean: truth, number: number, integer: number, string: words, null: nothing, any: json };

/** A field of `shape` that shows `value`; see form.js for what a field is. */
export function textField(shape, value, place) {
  const id = newId("field");
  const control = CONTROLS[shape.kind](shape, value, place, id);
  const helpId = `${id}-help`;
  const errorId = `${id}-error`;
  const helps = [shape.schema.description, limits(shape)].filter((one) => typeof one === "string" && one);
  const help = helps.length ? element("p", { class: "help", id: helpId }, helps.map((one) => visible(one.slice(0, 2_000))).join(" ")) : null;
  const error = element("p", { class: "errorlist", id: errorId, hidden: true });
  if (help) control.input.setAttribute("aria-describedby", helpId);
  if (place.required && place.name !== undefined) control.input.setAttribute("aria-required", "true");
  const marked = place.required && place.name !== undefined ? element("span", { class: "pg-required" }, "required") : null;
  const label = place.label ? element("label", { for: id }, visible(place.label), " ", marked) : null;
  if (!label) control.input.setAttribute("aria-label", "Value");
  const inline = control.input.type === "checkbox";
  const top = inline ? element("div", { class: "pg-tick" }, control.input, label) : null;
  const box = element("div", { class: "field" }, top ?? [label, control.input], help, error);
  const field = {
    element: box,
    read: control.read,
    problems: (path) => (control.problem?.() ? [{ path, message: control.problem() }] : []),
    at() { return this; },
    complain(message) {
      error.textContent = message;
      error.hidden = false;
      box.classList.add("wrong");
      control.input.setAttribute("aria-invalid", "true");
      control.input.setAttribute("aria-describedby", help ? `${errorId} ${helpId}` : errorId);
    },
    clear() {
      error.hidden = true;
      box.classList.remove("wrong");
      control.input.removeAttribute("aria-invalid");
      if (help) control.input.setAttribute("aria-describedby", helpId);
      else control.input.removeAttribute("aria-describedby");
    },
    focus: () => control.input.focus(),
  };
  control.input.addEventListener("input", field.clear);
  return field;
}

/** What a text must be like, in words. */
function limits({ schema, kind }) {
  if (kind !== "string" && kind !== "number" && kind !== "integer") return "";
  const { minimum: least, maximum: most } = schema;
  const said = [];
  if (Number.isFinite(least) && Number.isFinite(most)) said.push(`${least} to ${most}.`);
  else if (Number.isFinite(least)) said.push(`At least ${least}.`);
  else if (Number.isFinite(most)) said.push(`At most ${most}.`);
  if (typeof schema.pattern === "string") said.push(`Pattern: ${oneLine(schema.pattern, 100)}`);
  return said.join(" ");
}

function empty(shape, place) {
  return shape.nullable && place.required ? null : undefined;
}

function words(shape, value, place, id) {
  const { schema } = shape;
  const format = String(schema.format ?? "");
  const type = Object.hasOwn(INPUTS, format) ? INPUTS[format] : "text";
  const placeholder = Object.hasOwn(PLACEHOLDERS, format) ? PLACEHOLDERS[format] : example(schema);
  const common = { id, placeholder, autocomplete: "off", spellcheck: "false" };
  const input = format || schema.maxLength <= 60 ? element("input", { ...common, type }) : element("textarea", { ...common, rows: "1" });
  // An input of one line, and one of dates, would drop what they cannot hold.
  const now = typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
  if (input.localName === "input" && (now.includes("\n") || (type === "date" && !/^(\d{4}-\d\d-\d\d)?$/.test(now)))) input.type = "text";
  input.value = now;
  // An empty field is nothing given, unless an empty text was.
  let meant = value === "";
  input.addEventListener("input", () => (meant = false));
  return { input, read: () => (input.value === "" && !meant ? empty(shape, place) : input.value) };
}

function example(schema) {
  const first = Array.isArray(schema.examples) ? schema.examples[0] : undefined;
  return typeof first === "string" || typeof first === "number" ? oneLine(first, 80) : null;
}

function number(shape, value, place, id) {
  const input = element("input", { id, type: "text", inputmode: shape.kind === "integer" ? "numeric" : "decimal", autocomplete: "off", placeholder: example(shape.schema) });
  input.value = value === undefined || value === null ? "" : String(value);
  const text = () => input.value.trim();
  const readable = () => NUMBER.test(text()) && Number.isFinite(Number(text()));
  return {
    input,
    read: () => (text() === "" ? empty(shape, place) : readable() ? Number(text()) : text()),
    problem: () => (text() === "" || readable() ? "" : shape.kind === "integer" ? "Enter a whole number." : "Enter a number."),
  };
}

function truth(shape, value, place, id) {
  if (place.required && !shape.nullable) {
    const input = element("input", { id, type: "checkbox" });
    input.checked = value === true;
    return { input, read: () => input.checked };
  }
  return pick([{ label: "true", value: true }, { label: "false", value: false }], shape, value, place, id);
}

function list(shape, value, place, id) {
  return pick(shape.options, shape, value, place, id);
}

function constant(shape, value, place, id) {
  if (place.required && (value === undefined || same(value, shape.schema.const))) {
    const input = element("input", { id, type: "text", readonly: true });
    input.value = typeof shape.schema.const === "string" ? visible(shape.schema.const) : JSON.stringify(shape.schema.const);
    return { input, read: () => structuredClone(shape.schema.const) };
  }
  const options = [{ label: typeof shape.schema.const === "string" ? shape.schema.const : JSON.stringify(shape.schema.const), value: shape.schema.const }];
  return pick(options, shape, value, place, id);
}

function pick(options, shape, value, place, id) {
  const select = element("select", { id });
  const none = shape.nullable && place.required ? "null" : place.required ? "Choose…" : "Not given";
  select.append(element("option", { value: "" }, none));
  options.forEach((option, i) => select.append(element("option", { value: String(i) }, oneLine(option.label, 100))));
  const found = options.findIndex((option) => same(option.value, value));
  if (found < 0 && value !== undefined && value !== null) {
    // What somebody wrote as JSON and is none of the choices stays visible, and is refused with a word.
    options = [...options, { value }];
    select.append(element("option", { value: String(options.length - 1) }, oneLine(JSON.stringify(value), 100)));
    select.value = String(options.length - 1);
  } else {
    select.value = found < 0 ? "" : String(found);
  }
  return { input: select, read: () => (select.value === "" ? empty(shape, place) : structuredClone(options[Number(select.value)].value)) };
}

function nothing(_shape, value, place, id) {
  return pick([{ label: "null", value: null }], { nullable: false }, place.required ? null : value, place, id);
}

/** Any value, written as JSON. */
function json(shape, value, place, id) {
  const input = element("textarea", { id, rows: "2", class: "code", spellcheck: "false", placeholder: 'JSON, such as "text", 12 or {"a": 1}' });
  input.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  const parsed = () => {
    try {
      return { value: JSON.parse(input.value) };
    } catch {
      return null;
    }
  };
  const blank = () => input.value.trim() === "";
  return {
    input,
    read: () => (blank() ? empty(shape, place) : parsed()?.value),
    problem: () => (blank() ? (place.required && place.name !== undefined ? "This is required." : "") : parsed() ? "" : "This is not JSON. A text has to stand in quotes."),
  };
}
