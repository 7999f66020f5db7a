// @ts-check
/** Light or dark as chosen, before anything is painted: a classic script in the head, so that nothing flashes. */
try {
  const chosen = localStorage.getItem("syncline-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; then the system's choice holds.
}
