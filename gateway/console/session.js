/** The API key and the theme of this tab. The key is in sessionStorage: it ends with the tab. */

const KEY = "gleaner.key";
const THEME = "gleaner.theme";

/** @returns {string|null} */
export function key() {
  return sessionStorage.getItem(KEY);
}

/** @param {string|null} value null signs out */
export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/**
 * Take the key out of a link `/#key=gl_…`, and out of the address and the history at once.
 * A fragment is never sent to a server.
 * @returns {boolean} whether there was one
 */
export function takeKeyFromAddress() {
  const match = /^#key=([\w.~-]{1,512})$/.exec(location.hash);
  if (!match) return false;
  history.replaceState(null, "", `${location.pathname}${location.search}#/extract`);
  setKey(match[1]);
  return true;
}

/** @returns {"auto"|"light"|"dark"} */
export function theme() {
  const found = localStorage.getItem(THEME);
  return found === "light" || found === "dark" ? found : "auto";
}

/** @param {"auto"|"light"|"dark"} chosen */
export function setTheme(chosen) {
  if (chosen === "auto") localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, chosen);
  applyTheme();
}

export function applyTheme() {
  const chosen = theme();
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}
