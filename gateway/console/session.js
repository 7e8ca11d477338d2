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
 * Take the key out of a link `/#key=gl_…`, and out of the address and the history at once. It is not used yet:
 * whoever made the link may want the reader to work as somebody else.
 * A fragment is never sent to a server.
 * @param {string} hash what the address says instead
 * @returns {string|null} the key; "" if what the link has is none; null if the address has no key
 */
export function takeKeyFromAddress(hash) {
  if (!location.hash.startsWith("#key=")) return null;
  const offered = location.hash.slice("#key=".length);
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  return /^[\w.~-]{1,256}$/.test(offered) ? offered : "";
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
