/** Results as files: the same columns and fields as the API's own JSON lines and CSV. Pure. */

const END = ["start", "end", "text", "label"];
/** Columns between those of the document and the error, and a result's rows of them. @type {Record<string, [string[], (result: any) => any[][]]>} */
const TABLES = {
  entities: [[...END, "score"], ({ entities }) => entities.map((each) => [...fieldsOf(each), each.score])],
  relations: [
    ["relation", "score", ...["head", "tail"].flatMap((end) => [end, ...END.map((field) => `${end}_${field}`)])],
    ({ entities, relations = [] }) => relations.map(({ label, score, head, tail }) =>
      [label, score, head, ...fieldsOf(entities[head]), tail, ...fieldsOf(entities[tail])]),
  ],
  classifications: [["classification", "label", "score"], ({ classifications = {} }) =>
    Object.entries(classifications).flatMap(([name, classes]) => classes.map((each) => [name, each.label, each.score]))],
};
/** Line ends to Python and others, none to JSON. */
const LINE_ENDS = /[\u0085\u2028\u2029]/g;

/** @param {any[]} results @returns {string[]} lines */
export const toJsonl = (results) => results.map((result) => `${JSON.stringify(result).replace(LINE_ENDS,
  (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`);

const fieldsOf = (entity) => END.map((field) => entity[field]);

/**
 * A row for each entity, relation or class, or one for a document without any; RFC 4180.
 * @param {any[]} results @param {"entities"|"relations"|"classifications"} [table] @returns {string[]} lines
 */
export function toCsv(results, table = "entities") {
  const [columns, rowsOf] = TABLES[table];
  const rows = [["index", "id", "status", ...columns, "error"]];
  for (const result of results) {
    const own = rowsOf(result);
    const document = [result.index, result.id, result.status];
    for (const row of own) rows.push([...document, ...row, ""]);
    if (!own.length) rows.push([...document, ...columns.map(() => ""), result.error?.code ?? ""]);
  }
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`);
}

/** Text that a spreadsheet would run as a formula begins with `'`, as in the API's CSV. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n\u0085\u2028\u2029]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
