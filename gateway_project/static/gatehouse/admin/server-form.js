// The server form: only the fields of the chosen authentication type, header rows, Test connection.
// Everything here is a convenience; the server validates by method and works without it.
import { headerRows } from "./header-rows.js";

(() => {
  const start = () => {
    const form = document.getElementById("server_form");
    if (!form) return;
    chooseFields(form);
    headerRows(form);
    testConnection(form);
  };

  function chooseFields(form) {
    const method = form.querySelector("#id_method");
    if (!method) return;
    const marked = [...form.querySelectorAll("[data-for-methods]")];
    const show = () => {
      for (const element of marked) {
        const belongs = element.dataset.forMethods.split(" ").includes(method.value);
        (element.closest(".form-row") || element).hidden = !belongs;
      }
      for (const fieldset of form.querySelectorAll("fieldset.module")) {
        const rows = [...fieldset.querySelectorAll(":scope > .form-row, :scope > details > .form-row")];
        fieldset.hidden = rows.length > 0 && rows.every((row) => row.hidden);
      }
    };
    method.addEventListener("change", show);
    show();
  }

  function testConnection(form) {
    const section = form.querySelector(".gh-test");
    if (!section) return;
    const button = section.querySelector("#gh-test-button");
    const result = section.querySelector("#gh-test-result");
    const note = section.querySelector("#gh-tested"); // carries the outcome to the save
    button.hidden = false;
    let running = null;

    const run = async (extra) => {
      if (running) running.abort();
      running = new AbortController();
      button.disabled = true;
      note.value = "";
      result.replaceChildren(line("Testing: address, TLS, authentication, tools…"));
      const data = new FormData(form);
      for (const [name, value] of Object.entries(extra || {})) data.set(name, value);
      try {
        const answer = await fetch(section.dataset.testUrl, {
          method: "POST",
          body: data,
          headers: { Accept: "application/json" },
          credentials: "same-origin",
          redirect: "error",
          signal: running.signal,
        });
        if (!(answer.headers.get("content-type") || "").startsWith("application/json")) {
          throw new Error("not JSON");
        }
        show(await answer.json());
      } catch {
        result.replaceChildren(verdict(false, "The gateway did not answer the test. Reload the page, sign in if asked, and try again."));
      } finally {
        button.disabled = false;
        running = null;
      }
    };

    const show = (answer) => {
      note.value = answer.note || "";
      const box = verdict(answer.ok, answer.sentence);
      const facts = [
        ["Failing step", answer.ok ? "" : answer.step],
        ["Protocol versions", (answer.versions || []).join(", ")],
        ["Server", [answer.server_name, answer.server_version].filter(Boolean).join(" ")],
        ["Tools", answer.tools === null || answer.tools === undefined ? "" : String(answer.tools)],
        ["Milliseconds", answer.ok ? String(answer.milliseconds) : ""],
      ].filter(([, value]) => value);
      if (facts.length) {
        const list = document.createElement("dl");
        for (const [name, value] of facts) {
          const term = document.createElement("dt");
          term.textContent = name;
          const text = document.createElement("dd");
          text.textContent = value;
          list.append(term, text);
        }
        box.append(list);
      }
      if (answer.can_allow) {
        const allow = document.createElement("button");
        allow.type = "button";
        allow.className = "button gh-small";
        allow.textContent = `Allow ${answer.can_allow} and test again`;
        allow.addEventListener("click", () => {
          const tick = form.querySelector("#id_allow_private");
          if (tick) tick.checked = true;
          run({ allow_private: "on" });
          button.focus();
        });
        box.append(allow);
      }
      result.replaceChildren(box);
    };

    button.addEventListener("click", () => run());
  }

  function line(text) {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph;
  }

  function verdict(ok, sentence) {
    const box = document.createElement("div");
    box.className = `gh-verdict ${ok ? "gh-ok" : "gh-failed"}`;
    const text = line("");
    const word = document.createElement("strong");
    word.textContent = ok ? "OK. " : "Failed. ";
    text.append(word, sentence);
    box.append(text);
    return box;
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
