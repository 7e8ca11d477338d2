/**
 * Pasted text and files -> documents. Pure.
 *
 * @typedef {{text: string, id?: string}} Doc
 * @typedef {{rows: Record<string, string>[], columns: string[], faults: string[]}} Table
 */

/** @param {string} text @param {"whole"|"lines"|"blocks"} how @returns {Doc[]} */
export function split(text, how) {
  const parts = how === "whole" ? [text] : text.split(how === "lines" ? /\r?\n/ : /\r?\n[ \t]*\r?\n/);
  return parts.map((part) => (how === "whole" ? part : part.trim())).filter((part) => part.trim()).map((part) => ({ text: part }));
}

/** JSON lines, of objects or of strings. @param {string} content @returns {Table} */
export function fromJsonl(content) {
  const table = { rows: [], columns: new Set(), faults: [] };
  content.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    let value;
    try {
      value = JSON.parse(line);
    } catch {
      table.faults.push(`line ${index + 1} is not JSON`);
      return;
    }
    if (typeof value === "string") value = { text: value };
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      table.faults.push(`line ${index + 1} is neither an object nor a string`);
      return;
    }
    const row = {};
    for (const [name, each] of Object.entries(value)) {
      if (typeof each === "string" || typeof each === "number") row[name] = String(each);
    }
    Object.keys(row).forEach((name) => table.columns.add(name));
    table.rows.push(row);
  });
  return { ...table, columns: [...table.columns] };
}

/** CSV (RFC 4180) with a header; `,`, `;` or tab, whichever the header has most of. @param {string} content @returns {Table} */
export function fromCsv(content) {
  const lines = cells(content.replace(/^\uFEFF/, ""));
  const header = lines.shift() ?? [];
  const faults = [];
  const rows = [];
  lines.forEach((line, index) => {
    if (line.length === 1 && line[0] === "") return;
    if (line.length !== header.length) faults.push(`row ${index + 2} has ${line.length} cells, the header ${header.length}`);
    rows.push(Object.fromEntries(header.map((name, at) => [name, line[at] ?? ""])));
  });
  return { rows, columns: header, faults };
}

function cells(content) {
  const first = content.slice(0, content.search(/\r?\n|$/));
  const comma = [",", ";", "\t"].reduce((best, each) => (first.split(each).length > first.split(best).length ? each : best));
  const lines = [];
  let line = [], value = "", quoted = false;
  for (let i = 0; i < content.length; i++) {
    const c = content[i];
    if (quoted) {
      if (c !== '"') value += c;
      else if (content[i + 1] === '"') value += content[++i];
      else quoted = false;
    } else if (c === '"' && value === "") quoted = true;
    else if (c === comma) { line.push(value); value = ""; }
    else if (c === "\n") { line.push(value.replace(/\r$/, "")); lines.push(line); line = []; value = ""; }
    else value += c;
  }
  if (value || line.length) lines.push([...line, value]);
  return lines;
}

/** The column that holds the texts, by name or by length. @param {Table} table */
export function textColumn(table) {
  const named = ["text", "content", "body", "document", "sentence"].find((name) => table.columns.includes(name));
  if (named) return named;
  const length = (/** @type {string} */ name) => table.rows.slice(0, 50).reduce((sum, row) => sum + (row[name] ?? "").length, 0);
  return table.columns.reduce((best, each) => (length(each) > length(best) ? each : best), table.columns[0] ?? "");
}

/** @param {Table} table */
export const idColumn = (table) => ["id", "doc_id", "document_id", "key"].find((name) => table.columns.includes(name)) ?? "";

/**
 * @param {Table} table @param {string} text @param {string} id "" for none
 * @returns {Doc[]} ids are left out where they are not unique
 */
export function documents(table, text, id) {
  const ids = table.rows.map((row) => row[id] ?? "");
  const usable = id !== "" && ids.every(Boolean) && new Set(ids).size === ids.length;
  return table.rows.map((row, index) => ({ text: row[text] ?? "", ...(usable ? { id: ids[index] } : {}) }));
}

/**
 * A label as typed: `drug`, or with a description, `drug: a medicine by name`.
 * @param {string} typed @returns {{name: string, description: string|null}[]}
 */
export function labels(typed) {
  return typed.split(/[,;\n]/).map((part) => {
    const at = part.indexOf(": ");
    return at < 0
      ? { name: part.trim(), description: null }
      : { name: part.slice(0, at).trim(), description: part.slice(at + 2).trim() || null };
  }).filter((label) => label.name);
}

/**
 * The body of a submission: a head, then a document a line.
 * @param {Record<string, any>} head @param {Doc[]} docs
 * @returns {string[]}
 */
export const ndjson = (head, docs) => [head, ...docs].map((line) => `${JSON.stringify(line)}\n`);
