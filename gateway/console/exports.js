/** Results as files: the same columns and fields as the API's own JSON lines and CSV. Pure. */

const COLUMNS = ["index", "id", "status", "start", "end", "text", "label", "score", "error"];

/** @param {any[]} results @returns {string[]} lines */
export const toJsonl = (results) => results.map((result) => `${JSON.stringify(result)}\n`);

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

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
