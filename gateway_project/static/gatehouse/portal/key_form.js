// Shows the parts of the key form that the choices above them ask for.

const form = document.querySelector("[data-key-form]");

function update() {
  const chosen = new Set([form.elements.lifetime.value, form.elements.scope.value]);
  for (const part of form.querySelectorAll("[data-only-for]")) {
    part.hidden = !chosen.has(part.dataset.onlyFor);
  }
}

form.addEventListener("change", update);
update();
