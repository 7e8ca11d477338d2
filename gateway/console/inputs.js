/**
 * Pasted text, bytes of files and typed labels -> what is submitted. Pure.
 *
 * @typedef {import("./tables.js").Doc} Doc
 */

/** Encodings to choose from for a file that is not UTF-8; names of the WHATWG's, with where they are met. */
export const ENCODINGS = {
  "windows-1252": "Western (Windows)", "windows-1250": "Central European", "windows-1251": "Cyrillic", "iso-8859-2": "Latin 2",
  "koi8-r": "KOI8-R", macintosh: "Mac Roman", "utf-16le": "UTF-16", gb18030: "Chinese, simplified", big5: "Chinese, traditional",
  shift_jis: "Japanese (Shift JIS)", "euc-jp": "Japanese (EUC)", "euc-kr": "Korean",
};

const KINDS = { "PK\u0003\u0004": "a ZIP or Office file", "%PDF": "a PDF", "\u001f\u008b": "compressed by gzip", "\u00d0\u00cf\u0011\u00e0": "an old Office file" };

/** Why bytes are no text at all, or "". @param {Uint8Array} bytes */
export function binaryKind(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 4));
  return Object.entries(KINDS).find(([magic]) => head.startsWith(magic))?.[1] ?? "";
}

/**
 * The text of a file, without its byte order mark; null where it is in another encoding than this.
 * @param {Uint8Array} bytes @param {string} [encoding] by its byte order mark, or UTF-8, if not given
 */
export function decode(bytes, encoding) {
  const mark = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : "utf-8";
  try {
    const text = new TextDecoder(encoding ?? mark, { fatal: true }).decode(bytes);
    return !encoding && mark === "utf-8" && text.slice(0, 1000).includes("\u0000") ? null : text; // UTF-16 without a mark
  } catch {
    return null;
  }
}

/** @param {string} text @param {"whole"|"lines"|"blocks"} how @returns {Doc[]} */
export function split(text, how) {
  const parts = how === "whole" ? [text] : text.split(how === "lines" ? /\r\n|\r|\n/ : /(?:\r\n|\r|\n)[ \t]*(?:\r\n|\r|\n)/);
  return parts.map((part) => (how === "whole" ? part : part.trim())).filter((part) => part.trim()).map((part) => ({ text: part }));
}

/**
 * Labels as typed: `drug`, several with commas, or with a description, `drug: a medicine by name`. A description runs to
 * the end of its line: it may have commas.
 * @param {string} typed @returns {{name: string, description: string|null}[]}
 */
export function labels(typed) {
  return typed.split(/[\r\n]+/).flatMap((line) => {
    const [names, ...described] = line.split(": ");
    const description = described.join(": ").trim() || null;
    const parts = names.split(/[,;]/).map((name) => name.trim()).filter(Boolean);
    return parts.map((name, index) => ({ name, description: index === parts.length - 1 ? description : null }));
  });
}

/**
 * The body of a submission: a head, then one document per line.
 * @param {Record<string, any>} head @param {Doc[]} docs
 * @returns {string[]}
 */
export const ndjson = (head, docs) => [head, ...docs].map((line) => `${JSON.stringify(line)}\n`);
