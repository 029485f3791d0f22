// What a collaborator may use: only the controls that matter, and a search in long lists.
// Everything here is a convenience; the server checks what is posted and works without it.
"use strict";
(() => {
  const ROWS = '[id^="access_rules"] tr.form-row';
  const SEARCHED_FROM = 8;

  const show = (row) => {
    const opens = row.querySelector(".gh-opens");
    if (!opens) return;
    const role = row.querySelector('select[name$="-role"]');
    opens.hidden = role !== null && role.value === "manager";
    opens.querySelector(".gh-opens-names").hidden = opens.querySelector(".gh-opens-items").value === "all";
    const search = opens.querySelector(".gh-opens-search");
    if (search) search.hidden = opens.querySelectorAll("li").length < SEARCHED_FROM;
    const add = opens.querySelector(".gh-opens-add");
    if (add) add.hidden = document.getElementById("gh-item-names") === null;
  };

  const search = (input) => {
    const wanted = input.value.trim().toLowerCase();
    for (const line of input.closest(".gh-opens").querySelectorAll("li")) {
      line.hidden = !line.textContent.toLowerCase().includes(wanted);
    }
  };

  const add = (box) => {
    const input = box.querySelector("input");
    const typed = box.closest(".gh-opens").querySelector("textarea");
    const names = typed.value.split("\n").filter((line) => line.trim() !== "");
    const name = input.value.trim();
    if (name !== "" && !names.includes(name)) names.push(name);
    typed.value = names.join("\n");
    input.value = "";
    input.focus();
  };

  const start = () => {
    document.querySelectorAll(ROWS).forEach(show);
    document.addEventListener("change", (event) => {
      const row = event.target.closest(ROWS);
      if (row) show(row);
    });
    document.addEventListener("input", (event) => {
      if (event.target.closest(".gh-opens-search")) search(event.target);
    });
    document.addEventListener("click", (event) => {
      const button = event.target.closest(".gh-opens-add button");
      if (button) add(button.parentElement);
    });
    document.addEventListener("keydown", (event) => {
      const box = event.target.closest(".gh-opens-add, .gh-opens-search");
      if (!box || event.key !== "Enter") return;
      event.preventDefault(); // Enter would save the page
      if (box.matches(".gh-opens-add")) add(box);
    });
    document.addEventListener("formset:added", (event) => show(event.target));
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
