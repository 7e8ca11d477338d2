/** Results as files: the same columns and fields as the API's own JSON lines and CSV. Pure. */

const COLUMNS = ["index", "id", "status", "start", "end", "text", "label", "score", "error"];
/** Line ends to Python and others, none to JSON. */
const LINE_ENDS = /[\u0085\u2028\u2029]/g;

/** @param {any[]} results @returns {string[]} lines */
export const toJsonl = (results) => results.map((result) => `${JSON.stringify(result).replace(LINE_ENDS,
  (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`);

/** A row for each entity, or one for a document without any; RFC 4180. @param {any[]} results @returns {string[]} */
export function toCsv(results) {
  const rows = [COLUMNS];
  for (const { index, id, status, entities, error } of results) {
    for (const each of entities) {
      rows.push([index, id, status, each.start, each.end, each.text, each.label, each.score, ""]);
    }
    if (!entities.length) rows.push([index, id, status, "", "", "", "", "", error?.code ?? ""]);
  }
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`);
}

/** Text that a spreadsheet would run as a formula begins with `'`, as in the API's CSV. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n\u0085\u2028\u2029]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
