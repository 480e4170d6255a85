// Light or dark: as the system says, unless the person said otherwise.

const KEY = "vedette-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

export type Theme = "light" | "dark";

export function theme(): Theme {
  const said = localStorage.getItem(KEY);
  return said === "light" || said === "dark" ? said : dark.matches ? "dark" : "light";
}

export function apply(): void {
  document.documentElement.dataset.theme = theme();
  for (const listener of listeners) listener();
}

export function toggle(): void {
  localStorage.setItem(KEY, theme() === "dark" ? "light" : "dark");
  apply();
}

/** Charts are pixels: they must be drawn anew. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

dark.addEventListener("change", apply);
