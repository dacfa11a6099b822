// What pages do better with JavaScript. Each of them works without.

// Copy buttons stand beside what they copy, in elements of class “copy”.
function addCopyButtons(root) {
  for (const place of root.querySelectorAll(".copy:not(:has(button))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "secondary";
    button.textContent = "Copy";
    const label = place.dataset.label;
    if (label) button.setAttribute("aria-label", `Copy ${label}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(place.querySelector("code").textContent);
      tell("Copied");
    });
    place.append(button);
  }
}

function tell(text) {
  document.querySelector(".toast")?.remove();
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.setAttribute("role", "status");
  document.body.append(toast);
  toast.textContent = text;
  setTimeout(() => toast.remove(), 3000);
}

// Puts what another version of this page has in place of what is shown. Whoever wrote a page, its
// address and its title belong together.
function show(html, url) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const main = page.querySelector("main");
  if (!main) return false;
  const focused = document.activeElement?.id;
  document.querySelector("main").replaceWith(document.adoptNode(main));
  document.title = page.title;
  if (url) history.replaceState(null, "", url);
  prepare(document);
  if (focused) document.getElementById(focused)?.focus();
  return true;
}

// Forms with data-in-place answer on the spot: the page neither blinks nor scrolls. Where it looks as
// before, the attribute has the words that say what was done. Where it leads to another page, that
// page says them.
let last = { at: -Infinity, value: "" };
let isByPointer = false;
document.addEventListener("click", (event) => (isByPointer = event.detail > 0), true);
document.addEventListener("submit", async (event) => {
  const form = event.target;
  const button = event.submitter;
  // The second click of a double click may hit another button, which has just come in place of the first.
  const isSoon = performance.now() - last.at < 500;
  const isSecond = isByPointer && isSoon && button?.value !== last.value;
  if (isSecond || button?.getAttribute("aria-busy")) return event.preventDefault();
  if (!form.matches("[data-in-place]")) return;
  event.preventDefault();
  button?.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form, button)),
    });
    const here = new URL(response.url).pathname === location.pathname;
    const said = response.ok && form.dataset.inPlace;
    if (here && show(await response.text(), response.url)) {
      last = { at: performance.now(), value: button?.value };
      if (said) tell(said);
    } else {
      if (said) sessionStorage.setItem("said", said);
      location.assign(response.url);
    }
  } catch {
    form.removeAttribute("data-in-place");
    button?.removeAttribute("aria-busy");
    form.requestSubmit(button);
  }
});

// The name of a company is checked while it is typed. What is wrong is said below the field.
let checking;
document.addEventListener("input", ({ target: field }) => {
  const place = document.getElementById(field.dataset.check);
  if (!place) return;
  clearTimeout(checking);
  checking = setTimeout(async () => {
    const name = field.value;
    const response = await fetch(`/names/check?${new URLSearchParams({ name })}`).catch(() => null);
    if (!response?.ok || field.value !== name) return;
    place.textContent = await response.text();
    field.setAttribute("aria-invalid", place.textContent !== "");
  }, 300);
});

// A file may be dropped anywhere on a form of class “drop”.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const form = event.target.closest?.(".drop");
    if (!form || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.classList.toggle("over", kind === "dragover");
    if (kind !== "drop") return;
    form.querySelector("input[type=file]").files = event.dataTransfer.files;
  });
}

// What is under way says in data-again after how many seconds to look again.
let waiting;
function lookAgain(root) {
  clearTimeout(waiting);
  const place = root.querySelector("[data-again]");
  if (!place) return;
  waiting = setTimeout(async () => {
    try {
      const response = await fetch(location.href);
      if (response.ok && !response.redirected) show(await response.text());
    } catch {
      lookAgain(document);
    }
  }, place.dataset.again * 1000);
}

function prepare(root) {
  addCopyButtons(root);
  lookAgain(root);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector(".menu[open]")?.removeAttribute("open");
});
document.addEventListener("click", (event) => {
  const open = document.querySelector(".menu[open]");
  if (open && !open.contains(event.target)) open.removeAttribute("open");
});

prepare(document);
const said = sessionStorage.getItem("said");
if (said) tell(said);
sessionStorage.removeItem("said");
