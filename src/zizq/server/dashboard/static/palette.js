// The palette: Ctrl+K or / opens it; a page, a queue, or the identifier of a job is an Enter away.
const MOST = 12;
const JOB_ID = /^[0-9a-z]{25}$/;

export function startPalette(nextTheme) {
  const dialog = document.getElementById("palette");
  const input = document.getElementById("palette-input");
  const list = document.getElementById("palette-list");
  const pages = [...document.querySelectorAll("header nav a")].map((link) => ({ text: link.textContent, kind: "page", path: link.getAttribute("href") }));
  const theme = { text: "Change the theme", kind: "action", run: nextTheme };
  let queues = [];
  let shown = [];
  let chosen = 0;

  function entries(text) {
    const wanted = text.trim().toLowerCase();
    if (JOB_ID.test(wanted)) return [{ text: wanted, kind: "job", path: `/jobs/${wanted}` }];
    const all = [...pages, ...queues, theme];
    return all.filter((one) => one.text.toLowerCase().includes(wanted)).slice(0, MOST);
  }

  function show() {
    shown = entries(input.value);
    chosen = Math.min(chosen, Math.max(shown.length - 1, 0));
    list.replaceChildren(...shown.map(option));
    input.setAttribute("aria-activedescendant", shown.length ? `palette-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function option(entry, index) {
    const made = document.createElement("li");
    made.id = `palette-${index}`;
    made.role = "option";
    made.ariaSelected = String(index === chosen);
    const kind = document.createElement("small");
    kind.textContent = entry.kind;
    made.append(entry.text, kind);
    made.addEventListener("click", () => go(entry));
    return made;
  }

  function go(entry) {
    dialog.close();
    if (entry.run) entry.run();
    else location.href = entry.path;
  }

  async function open() {
    if (dialog.open) return;
    input.value = "";
    chosen = 0;
    show();
    dialog.showModal();
    input.focus();
    const response = await fetch("/names");
    if (!response.ok || response.redirected) return;
    const path = (queue) => `/jobs?${new URLSearchParams({ queue })}`;
    queues = (await response.json()).map((queue) => ({ text: queue, kind: "queue", path: path(queue) }));
    show();
  }

  document.getElementById("palette-open").addEventListener("click", () => open().catch(() => {}));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (slash || ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k")) {
      event.preventDefault();
      open().catch(() => {});
    }
  });
  input.addEventListener("input", () => { chosen = 0; show(); });
  input.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && shown.length) {
      event.preventDefault();
      chosen = (chosen + move + shown.length) % shown.length;
      show();
    } else if (event.key === "Enter" && shown[chosen]) {
      event.preventDefault();
      go(shown[chosen]);
    }
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
