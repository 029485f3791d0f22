// The OAuth part of the server form: Discover fills the fields and the panel tells what will happen.
// Everything here is a convenience; the server judges every field again and works without it.
"use strict";
(() => {
  const ENDPOINTS = ["issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint", "registration_endpoint", "userinfo_endpoint"];
  const OAUTH = ["oauth2", "client_credentials", "token_exchange"];

  const start = () => {
    const form = document.getElementById("server_form");
    if (!form) return;
    const plan = makePlan(form);
    registration(form);
    discover(form, plan);
    const discovered = form.querySelector("[name=discovered]");
    form.addEventListener("input", (event) => {
      // What is typed over is no longer the word of the metadata.
      if (discovered && ENDPOINTS.includes(event.target.name)) discovered.value = "";
      plan();
    });
    form.addEventListener("change", plan);
    plan();
  };

  // The app's fields only where there is an app.
  function registration(form) {
    const choice = form.querySelector("#id_registration");
    const method = form.querySelector("#id_method");
    if (!choice || !method) return;
    const show = () => {
      const app = method.value !== "oauth2" || choice.value === "pre_registered";
      for (const name of ["client_id", "client_secret"]) {
        const row = form.querySelector(`.form-row.field-${name}`);
        if (row && OAUTH.includes(method.value)) row.hidden = !app;
      }
      const endpoint = form.querySelector(".form-row.field-registration_endpoint");
      if (endpoint && method.value === "oauth2") endpoint.hidden = choice.value !== "dynamic";
    };
    choice.addEventListener("change", show);
    method.addEventListener("change", show);
    form.addEventListener("gh-filled", show);
    show();
  }

  async function ask(url, form, signal) {
    const answer = await fetch(url, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      redirect: "error",
      signal,
    });
    if (!(answer.headers.get("content-type") || "").startsWith("application/json")) throw new Error("not JSON");
    return answer.json();
  }

  function discover(form, plan) {
    const box = form.querySelector("#gh-discover");
    if (!box || !box.dataset.url) return;
    const button = box.querySelector("button");
    const result = box.querySelector("[role=status]");
    button.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      result.replaceChildren(paragraph("Asking the server and its provider…"));
      try {
        const found = await ask(box.dataset.url, form);
        if (found.ok) fill(form, found);
        result.replaceChildren(told(found));
        if (found.ok) plan();
      } catch {
        result.replaceChildren(verdict(false, "The gateway did not answer. Reload the page, sign in if asked, and try again."));
      } finally {
        button.disabled = false;
      }
    });
  }

  function fill(form, found) {
    const set = (name, value) => {
      const field = form.querySelector(`[name=${name}]`);
      if (field) field.value = value;
    };
    for (const [name, value] of Object.entries(found.values)) set(name, value);
    set("discovered", found.switches.discovered ? "on" : "");
    const iss = form.querySelector("#id_iss_supported");
    if (iss) iss.checked = found.switches.iss_supported;
    // An admin's own list is a ceiling: it is left alone.
    const scopes = form.querySelector("#id_scopes");
    if (scopes && !scopes.value.trim()) scopes.value = found.scopes;
    form.dispatchEvent(new Event("gh-filled"));
  }

  function told(found) {
    const box = verdict(found.ok, found.sentence);
    if (found.steps.length) {
      const list = document.createElement("dl");
      for (const step of found.steps) list.append(part("dt", step.what), part("dd", step.outcome));
      box.append(list);
    }
    for (const [title, lines] of [["Differs from what is saved:", found.differences], ["Note:", found.notes]]) {
      if (!lines || !lines.length) continue;
      const list = document.createElement("ul");
      list.append(...lines.map((line) => part("li", line)));
      box.append(paragraph(title), list);
    }
    return box;
  }

  function makePlan(form) {
    const box = form.querySelector("#gh-plan");
    const method = form.querySelector("#id_method");
    if (!box || !box.dataset.url || !method) return () => {};
    const result = box.querySelector("[role=status]");
    let timer = null;
    let running = null;
    const run = async () => {
      if (running) running.abort();
      running = new AbortController();
      try {
        const found = await ask(box.dataset.url, form, running.signal);
        result.replaceChildren(found.plan && found.plan.length ? lines(found.plan) : paragraph(found.sentence));
      } catch (error) {
        if (error.name !== "AbortError") result.replaceChildren(paragraph("The gateway did not answer."));
      }
    };
    return () => {
      clearTimeout(timer);
      if (OAUTH.includes(method.value)) timer = setTimeout(run, 400);
    };
  }

  function lines(plan) {
    const list = document.createElement("dl");
    list.className = "gh-plan";
    for (const line of plan) {
      const text = part("dd", line.text);
      if (line.unusual) text.className = "gh-warning";
      list.append(part("dt", line.what), text);
    }
    return list;
  }

  function part(tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  }

  const paragraph = (text) => part("p", text);

  function verdict(ok, sentence) {
    const box = document.createElement("div");
    box.className = `gh-verdict ${ok ? "gh-ok" : "gh-failed"}`;
    const text = paragraph("");
    text.append(part("strong", ok ? "Found. " : "Not found. "), sentence);
    box.append(text);
    return box;
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
