// Goes through the audit chain piece by piece, and says how far it has come. Without it the page's button does.

const form = document.querySelector("#gh-chain-form");
const button = form.querySelector("button");
const place = document.querySelector("#gh-chain-progress");
const words = document.querySelector("#gh-chain-words");

async function nextPiece() {
  const answer = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "application/json" },
    redirect: "error",
  });
  const piece = await answer.json();
  if (!answer.ok) throw new Error(piece.detail);
  return piece;
}

function show({ checked, of, breaks, walk }) {
  form.elements.walk.value = walk;
  const bar = place.querySelector("progress");
  bar.max = of;
  bar.value = checked;
  words.textContent =
    `${checked} of ${of} events checked` + (breaks ? `, ${breaks} ${breaks === 1 ? "break" : "breaks"} found.` : ".");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  place.hidden = false;
  try {
    for (;;) {
      const piece = await nextPiece();
      if (piece.done) {
        window.location.assign(piece.done);
        return;
      }
      show(piece);
    }
  } catch {
    words.textContent = form.dataset.failed;
    button.textContent = "Go on";
    button.disabled = false;
  }
});
