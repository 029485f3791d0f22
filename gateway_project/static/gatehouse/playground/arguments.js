// The arguments of one call: as a form or as JSON, whichever the person likes; both show the same.

import { button, element, newId } from "./dom.js";
import { Form } from "./form.js";
import { pretty } from "./json-tree.js";
import { checkSchema, initial, isObject, SchemaProblem } from "./schema.js";
import { validate } from "./validate.js";

export class ArgumentsEditor {
  #schema;
  #form = null;
  #asForm = button("Form", () => this.#toForm(), { "aria-pressed": "true" });
  #asJson = button("JSON", () => this.#toJson(), { "aria-pressed": "false" });
  #text;
  #error = element("p", { class: "errorlist", role: "alert", hidden: true });
  #problem = element("p", { class: "notice warning", hidden: true });
  #formBox = element("div", {});
  #jsonBox;

  constructor(schema) {
    this.#schema = schema;
    const id = newId("json");
    this.#text = element("textarea", { id, class: "code", rows: "10", spellcheck: "false", "aria-describedby": `${id}-error` });
    this.#error.id = `${id}-error`;
    this.#jsonBox = element("div", { class: "field", hidden: true }, element("label", { for: id }, "Arguments as JSON"), this.#text, this.#error);
    const tabs = element("div", { class: "pg-switch", role: "group", "aria-label": "Enter arguments as" }, this.#asForm, this.#asJson);
    const top = element("div", { class: "line" }, element("h3", {}, "Arguments"), element("span", { class: "push" }, tabs));
    this.element = element("div", { class: "pg-arguments" }, top, this.#problem, this.#formBox, this.#jsonBox);
    this.reset();
  }

  /** Begin anew, with the defaults of the schema. */
  reset() {
    const wasJson = this.#form && this.#asJson.getAttribute("aria-pressed") === "true";
    let begin = {};
    try {
      checkSchema(this.#schema);
      begin = initial(this.#schema, this.#schema) ?? {};
      this.#form = new Form(this.#schema);
      this.#formBox.replaceChildren(this.#form.element);
    } catch (error) {
      if (!(error instanceof SchemaProblem)) throw error;
      this.#form = null;
      this.#problem.textContent = `${error.message} Enter them as JSON.`;
      this.#problem.hidden = false;
      this.#asForm.disabled = true;
    }
    this.#text.value = pretty(begin);
    this.#error.hidden = true;
    this.#show(this.#form && !wasJson ? "form" : "json");
  }

  /** The arguments if nothing is wrong with them; else null, with the complaints shown. */
  take() {
    if (!this.#formBox.hidden) return this.#form.check() ? this.#form.read() : null;
    const read = this.#parse();
    if (read === null) return null;
    const errors = isObject(this.#schema) && this.#form ? validate(this.#schema, this.#schema, read) : [];
    if (errors.length) return this.#complain(errors.slice(0, 5).map(({ path, message }) => `${path.length ? `${path.join(" › ")}: ` : ""}${message}`).join("\n"));
    return read;
  }

  #toJson() {
    if (this.#formBox.hidden) return;
    this.#text.value = pretty(this.#form.read());
    this.#error.hidden = true;
    this.#show("json");
  }

  #toForm() {
    if (!this.#formBox.hidden) return;
    const read = this.#parse();
    if (read === null) return;
    try {
      this.#form.set(read);
    } catch (error) {
      if (!(error instanceof SchemaProblem)) throw error;
      this.#complain(error.message);
      return;
    }
    this.#show("form");
  }

  #parse() {
    let read;
    try {
      read = JSON.parse(this.#text.value.trim() || "{}");
    } catch (error) {
      return this.#complain(`This is not JSON: ${error.message}`);
    }
    if (!isObject(read)) return this.#complain("The arguments must be an object: { … }.");
    this.#error.hidden = true;
    return read;
  }

  #complain(message) {
    this.#error.textContent = message;
    this.#error.hidden = false;
    this.#text.focus();
    return null;
  }

  #show(which) {
    this.#formBox.hidden = which !== "form";
    this.#jsonBox.hidden = which !== "json";
    this.#asForm.setAttribute("aria-pressed", String(which === "form"));
    this.#asJson.setAttribute("aria-pressed", String(which === "json"));
  }
}
