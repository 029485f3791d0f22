// Pages of virtual servers: moving members up and down, finding one among many, header rows. All works without this.
import { headerRows } from "./header-rows.js";

for (const form of document.querySelectorAll(".gh-settings")) headerRows(form);

for (const list of document.querySelectorAll(".gh-members ol")) {
  const number = () => [...list.children].forEach((row, place) => {
    row.querySelector(".gh-member-order input").value = place + 1;
  });
  for (const buttons of list.querySelectorAll(".gh-move")) buttons.hidden = false;
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-move]");
    if (!button) return;
    const row = button.closest(".gh-member");
    const other = button.dataset.move === "up" ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (button.dataset.move === "up") other.before(row);
    else other.after(row);
    number();
    button.focus();
  });
}

const members = document.getElementById("id_members");
if (members && members.children.length > 12) {
  const search = document.createElement("input");
  search.type = "search";
  search.className = "gh-filter vTextField";
  search.placeholder = "Name or slug";
  search.setAttribute("aria-label", "Find among the servers");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of members.children) {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    }
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
  members.before(search);
}
