// The form of an identity provider: only the fields and the steps of the chosen kind, and its redirect URI.
// A convenience; the server validates and works without it.
"use strict";
(() => {
  const DEFAULTS = { issuer: "issuer", username_claim: "usernameClaim", groups_claim: "groupsClaim", extra_scopes: "extraScopes" };

  const start = () => {
    const form = document.getElementById("identityprovider_form");
    const preset = form && form.querySelector("#id_preset");
    if (!preset) return;
    const steps = [...form.querySelectorAll("[data-for-preset]")];
    const adding = Boolean(form.querySelector("#id_slug"));
    const field = (name) => form.querySelector(`#id_${name}`);
    const row = (name) => form.querySelector(`.form-row.field-${name}`);
    const show = (name, shown) => {
      const found = row(name);
      if (found) found.hidden = !shown;
    };

    const fillIn = (chosen) => {
      for (const [name, key] of Object.entries(DEFAULTS)) {
        const input = field(name);
        if (!input) continue;
        const untouched = !input.value || steps.some((step) => step.dataset[key] === input.value);
        if (adding && untouched) input.value = chosen.dataset[key];
      }
      if (field("issuer")) field("issuer").placeholder = chosen.dataset.example;
    };

    const choose = () => {
      for (const step of steps) {
        step.hidden = step.dataset.forPreset !== preset.value;
        step.open = !step.hidden;
      }
      fillIn(steps.find((step) => !step.hidden));
      update();
    };

    const update = () => {
      const github = preset.value === "github";
      const creation = field("creation") ? field("creation").value : "";
      const signIn = !field("sign_in") || field("sign_in").checked;
      const tokens = Boolean(field("accept_tokens")) && field("accept_tokens").checked;
      for (const name of ["client_id", "secret", "extra_scopes"]) show(name, signIn);
      show("allowed_domains", creation === "domains");
      show("allowed_groups", creation === "groups");
      show("groups_claim", preset.value !== "google");
      const teams = form.querySelector("#team_mappings-group");
      if (teams) teams.hidden = preset.value === "google";
      for (const name of ["audiences", "jwks_url", "algorithms"]) show(name, tokens);
      for (const element of form.querySelectorAll(".gh-jwt")) element.hidden = github;
      const accounts = form.querySelector("#account_mappings-group");
      if (accounts) accounts.hidden = github || !tokens;
    };

    const uri = form.querySelector("#gh-redirect-uri");
    const slug = field("slug");
    const spell = () => {
      if (slug && uri) uri.textContent = uri.dataset.pattern.replace("<slug>", slug.value || "<slug>");
    };

    preset.addEventListener("change", choose);
    form.addEventListener("change", update);
    if (slug) {
      slug.addEventListener("input", spell);
      const name = field("name");
      if (name) for (const event of ["input", "keyup", "change"]) name.addEventListener(event, () => setTimeout(spell));
    }
    choose();
    spell();
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
