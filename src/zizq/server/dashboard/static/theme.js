// The theme, before anything is painted: as the system says, unless one was chosen here.
"use strict";
(() => {
  const chosen = localStorage.getItem("zizq-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("has-script");
})();
