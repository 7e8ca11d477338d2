/** Numbers and times in words. Pure. */

const NUMBER = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** @param {number|null|undefined} value */
export const number = (value) => (value === null || value === undefined ? "–" : NUMBER.format(value));

/** @param {number|null|undefined} value */
export const compact = (value) => (value === null || value === undefined ? "–" : COMPACT.format(value));

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** @param {number} value 0 to 1 */
export const score = (value) => (Math.floor(value * 100) / 100).toFixed(2).replace(/^0/, "");

/** @param {number} bytes */
export function bytes(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(0)} kB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

/** @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129_600 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** @param {string|null|undefined} from @param {string|null|undefined} to */
export const between = (from, to) => (from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : null);

/** @param {string|null|undefined} moment RFC 3339 */
export function when(moment) {
  if (!moment) return "–";
  const date = new Date(moment);
  const pad = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** @param {string|null|undefined} moment @param {number} [now] ms */
export function ago(moment, now = Date.now()) {
  if (!moment) return "–";
  const seconds = (now - Date.parse(moment)) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  const told = duration(Math.round(Math.abs(seconds)) < 90 ? Math.round(Math.abs(seconds)) : Math.abs(seconds)).replace(".0 s", " s");
  return seconds < 0 ? `in ${told}` : `${told} ago`;
}

/** @param {string} word snake_case */
export const words = (word) => word.replaceAll("_", " ");
