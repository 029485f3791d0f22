// Copy buttons and tabs. Without this module every text can still be selected by hand.

const said = document.createElement("div");
said.className = "hidden";
said.setAttribute("role", "status");
document.body.append(said);

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    answer(button, "Copied", "Copied to the clipboard.");
  } catch {
    getSelection().selectAllChildren(source);
    answer(button, "Selected", "The text is selected. Press Control and C, or Command and C, to copy it.");
  }
}

function answer(button, word, sentence) {
  button.textContent = word;
  button.classList.add("done");
  said.textContent = sentence;
  clearTimeout(button.timer);
  button.timer = setTimeout(() => {
    button.textContent = "Copy";
    button.classList.remove("done");
    said.textContent = "";
  }, 2500);
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}

// Holders with the same data-keep show the same tab: whoever chose a client keeps it under the other method.
const together = new Map();

function makeTabs(holder) {
  const panels = [...holder.querySelectorAll(":scope > [data-tab]")];
  const list = document.createElement("div");
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", holder.dataset.tabs);
  const tabs = panels.map((panel) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `tab-${panel.id}`;
    tab.textContent = panel.dataset.tab;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    list.append(tab);
    return tab;
  });
  const show = (number) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === number);
      tab.tabIndex = i === number ? 0 : -1;
      panels[i].hidden = i !== number;
    });
  };
  const others = together.get(holder.dataset.keep) ?? [];
  if (holder.dataset.keep) together.set(holder.dataset.keep, others);
  const named = (name) => panels.findIndex((panel) => panel.dataset.tab === name);
  others.push((name) => named(name) >= 0 && show(named(name)));
  const choose = (number) => others.forEach((choose) => choose(panels[number].dataset.tab));
  tabs.forEach((tab, i) => tab.addEventListener("click", () => choose(i)));
  list.addEventListener("keydown", (event) => {
    const now = tabs.indexOf(document.activeElement);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const number = (next + tabs.length) % tabs.length;
    choose(number);
    tabs[number].focus();
  });
  holder.prepend(list);
  holder.classList.add("live");
  show(0);
  const reveal = (id) => {
    const target = document.getElementById(id);
    const wanted = panels.findIndex((panel) => panel.contains(target));
    if (wanted >= 0) choose(wanted);
  };
  reveal(holder.dataset.open || location.hash.slice(1));
  addEventListener("hashchange", () => reveal(location.hash.slice(1)));
}

document.querySelectorAll("[data-tabs]").forEach(makeTabs);
