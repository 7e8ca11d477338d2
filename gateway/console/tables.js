/**
 * Files of rows -> documents: CSV, TSV, JSON and JSON lines. Pure, and strict: a row that cannot be read as it stands
 * is a fault with its place, and never part of the documents.
 *
 * @typedef {{labels?: any, relations?: any, classifications?: any, options?: any}} Own what a row asks for itself
 * @typedef {{text: string, id?: string} & Own} Doc
 * @typedef {{values: Record<string, string>, place: string, own?: Own}} Row
 * @typedef {{rows: Row[], columns: string[], faults: string[], broken: boolean, ownLabels: boolean}} Table
 *   broken: no row of the file can be trusted. ownLabels: some rows ask for something themselves.
 */

const OWN = ["labels", "relations", "classifications", "options"];

/** @param {string} name of the file @param {string} content @returns {Table|null} null for a file of plain text */
export function readTable(name, content) {
  if (/\.(jsonl|ndjson)$/i.test(name)) return fromJsonl(content);
  if (/\.json$/i.test(name)) return fromJson(content);
  if (/\.tsv$/i.test(name)) return fromCsv(content, "\t");
  return /\.csv$/i.test(name) ? fromCsv(content) : null;
}

/** A JSON array, one object, or JSON lines under the name of JSON. @param {string} content @returns {Table} */
export function fromJson(content) {
  let value;
  try {
    value = JSON.parse(content);
  } catch {
    return fromJsonl(content);
  }
  return fromValues((Array.isArray(value) ? value : [value]).map((each, index) => [`item ${index + 1}`, each]));
}

/** @param {string} content @returns {Table} */
export function fromJsonl(content) {
  const faults = [];
  const values = [];
  content.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    try {
      values.push([`line ${index + 1}`, JSON.parse(line)]);
    } catch {
      faults.push(`line ${index + 1} is not JSON`);
    }
  });
  const table = fromValues(values);
  return { ...table, faults: [...faults, ...table.faults] };
}

/** @param {[string, any][]} values each with its place @returns {Table} */
function fromValues(values) {
  const rows = [], faults = [], columns = new Set();
  for (const [place, given] of values) {
    const value = typeof given === "string" ? { text: given } : given;
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      faults.push(`${place} is neither an object nor a string`);
      continue;
    }
    const large = Object.entries(value).find(([, each]) => typeof each === "number" && Math.abs(each) > Number.MAX_SAFE_INTEGER);
    if (large) { // JSON.parse has rounded it already
      faults.push(`${place}: ${large[0]} is a number too large to be read exactly; put it in quotes`);
      continue;
    }
    const texts = Object.entries(value).filter(([, each]) => typeof each === "string" || typeof each === "number");
    texts.forEach(([name]) => columns.add(name));
    const own = Object.fromEntries(OWN.filter((name) => value[name] != null).map((name) => [name, value[name]]));
    rows.push({ place, values: Object.fromEntries(texts.map(([name, each]) => [name, String(each)])), own });
  }
  const ownLabels = rows.some((row) => Object.keys(row.own).length > 0);
  return { rows, columns: [...columns], faults, broken: false, ownLabels };
}

/**
 * CSV (RFC 4180) or TSV with a header.
 * @param {string} content @param {string} [comma] `,`, `;` or tab, whichever the header has most of, if not given
 * @returns {Table}
 */
export function fromCsv(content, comma = separator(content)) {
  const { lines, fault } = cells(content, comma);
  const columns = lines.shift()?.values ?? [];
  const repeated = columns.find((name, index) => columns.indexOf(name) !== index);
  const table = { rows: [], columns, faults: [], broken: true, ownLabels: false };
  if (repeated !== undefined) return { ...table, faults: [`the header names ${repeated ? `“${repeated}”` : "an empty column"} twice`] };
  for (const { values, line, fault: unread } of lines) {
    if (unread) table.faults.push(`line ${line}: ${unread}`);
    else if (values.length === 1 && values[0] === "") continue;
    else if (values.length !== columns.length) {
      table.faults.push(`line ${line} has ${values.length} cells, the header ${columns.length}; is a text with “${comma}” not in quotes?`);
    } else table.rows.push({ place: `line ${line}`, values: Object.fromEntries(columns.map((name, at) => [name, values[at]])) });
  }
  if (fault) return { ...table, rows: [], faults: [fault, ...table.faults] };
  return { ...table, broken: false };
}

function separator(content) {
  const header = content.slice(0, content.search(/[\r\n]|$/));
  return [",", ";", "\t"].reduce((best, each) => (header.split(each).length > header.split(best).length ? each : best));
}

/**
 * Cells of every line. A quoted cell must end before a separator or a line's end. In TSV a cell that does not is taken
 * as it stands, for its quotes are often literal; in CSV its row is a fault.
 */
function cells(content, comma) {
  const lines = [];
  let closes = true; // once no quote closes, none behind it is looked for
  const tabs = comma === "\t";
  let values = [], at = 0, line = 1, from = 1, unread = "";
  const next = new RegExp(`[${comma}\\r\\n]|$`, "g");
  const plain = () => {
    next.lastIndex = at;
    const end = next.exec(content).index;
    values.push(content.slice(at, end));
    at = end;
  };
  while (at < content.length) {
    const end = content[at] === '"' && closes ? closing(content, at) : -1;
    if (content[at] === '"') closes = end >= 0;
    const after = end < 0 ? "" : content[end + 1] ?? "\n";
    if (content[at] !== '"') plain();
    else if (end >= 0 && (after === comma || after === "\r" || after === "\n") && !(tabs && swallows(content.slice(at, end), values.length))) {
      values.push(content.slice(at + 1, end).replaceAll('""', '"'));
      line += (content.slice(at, end).match(/\r\n|\r|\n/g) ?? []).length;
      at = end + 1;
    } else if (tabs) plain();
    else if (end < 0) return { lines, fault: `the quote that opens in line ${line} is never closed` };
    else {
      unread = `text follows a closing quote (a quote inside of a cell is written "", not \\")`;
      plain();
    }
    if (content[at] === comma) {
      at += 1;
      if (at === content.length) values.push("");
      continue;
    }
    lines.push({ values, line: from, fault: unread });
    at += content.startsWith("\r\n", at) ? 2 : 1;
    line += 1;
    [values, from, unread] = [[], line, ""];
  }
  if (values.length) lines.push({ values, line: from, fault: unread });
  return { lines, fault: "" };
}

/** The place of the quote that closes the cell opened at `at`, or -1. */
function closing(content, at) {
  for (let end = content.indexOf('"', at + 1); end >= 0; end = content.indexOf('"', end + 1)) {
    if (content[end + 1] !== '"') return end;
    end += 1;
  }
  return -1;
}

/** Whether a quoted TSV cell over several lines holds what may well be rows: Excel's cells with line breaks hold no tabs. */
const swallows = (cell, before) => /[\r\n]/.test(cell) && (before === 0 || cell.includes("\t"));

/** The column that holds the texts, by name or by length. @param {Table} table */
export function textColumn(table) {
  const named = ["text", "content", "body", "document", "sentence"].find((name) => table.columns.includes(name));
  if (named) return named;
  const length = (/** @type {string} */ name) => table.rows.slice(0, 50).reduce((sum, row) => sum + (row.values[name] ?? "").length, 0);
  return table.columns.reduce((best, each) => (length(each) > length(best) ? each : best), table.columns[0] ?? "");
}

/** @param {Table} table */
export const idColumn = (table) => ["id", "doc_id", "document_id", "key"].find((name) => table.columns.includes(name)) ?? "";

/**
 * @param {Table} table @param {string} text @param {string} id "" for none @param {boolean} [own] with the rows' own labels
 * @returns {{docs: Doc[], faults: string[], notes: string[]}} faults: rows left out. Ids are left out where they repeat.
 */
export function documents(table, text, id, own = table.ownLabels) {
  const faults = [...table.faults], notes = [], docs = [];
  const ids = table.rows.map((row) => row.values[id] ?? "");
  const usable = id !== "" && ids.every(Boolean) && new Set(ids).size === ids.length;
  if (id && !usable && ids.length) notes.push(`${id} is empty or repeats: documents are numbered`);
  let empty = 0;
  table.rows.forEach((row, index) => {
    const fault = own ? ownFault(row.own ?? {}) : "";
    if (fault) {
      faults.push(`${row.place}: ${fault}`);
      return;
    }
    if (!(row.values[text] ?? "").trim()) empty += 1;
    docs.push({ text: row.values[text] ?? "", ...(usable ? { id: ids[index] } : {}), ...(own ? row.own : {}) });
  });
  if (empty) notes.push(`${empty} without a text will fail`);
  return { docs, faults, notes };
}

/** Return why fields of a row are not the API's, or "": doccano, spaCy and others use the names for something else. */
function ownFault({ labels, relations, classifications, options }) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const isNames = (value) => Array.isArray(value) && value.every((each) => typeof each === "string");
  const isDescribed = (value) => isObject(value) && Object.values(value).every((each) => each === null || typeof each === "string");
  if (labels !== undefined && !isNames(labels) && !isDescribed(labels)) return "its labels are not a list of strings";
  if (relations !== undefined && !isNames(relations) && !isObject(relations)) return "its relations are not a list of strings";
  if (classifications !== undefined && !isObject(classifications)) return "its classifications are no object";
  return options === undefined || isObject(options) ? "" : "its options are no object";
}
