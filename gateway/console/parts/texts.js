/** The field of texts: pasted, or from files; answers the documents. */

import { fill, h } from "../dom.js";
import { bytes, plural } from "../format.js";
import { documents, fromCsv, fromJsonl, idColumn, split, textColumn } from "../inputs.js";

export const MAX_DOCUMENTS = 20_000;
const MAX_BYTES = 64 * 1024 * 1024;
const TYPES = ".txt,.md,.jsonl,.ndjson,.csv,.tsv,.json";

/** @typedef {{name: string, size: number, table: import("../inputs.js").Table|null, content: string, text: string, id: string}} Held */

/** @param {{onchange: () => void}} options */
export function texts({ onchange }) {
  /** @type {Held[]} */
  let held = [];
  let how = "whole";
  const fault = h("p.fault", { role: "alert" });
  const area = h("textarea", {
    id: "texts", rows: 9, dir: "auto", spellcheck: "false", oninput: onchange,
    placeholder: "Paste a text, or drop files here", "aria-describedby": "texts-help",
  });
  const files = h("div.files");
  const picker = h("input", { type: "file", multiple: true, accept: TYPES, id: "files", class: "sr", onchange: () => take([...picker.files]) });
  const splitter = h("select", { id: "split", onchange: () => { how = splitter.value; onchange(); } },
    Object.entries({ whole: "one document", lines: "a document a line", blocks: "documents between blank lines" })
      .map(([value, text]) => h("option", { value }, text)));
  const box = h("div.drop", {},
    h("label", { for: "texts" }, "Texts"), area, files,
    h("div.row.between", {},
      h("label.inline", { for: "split" }, "Read as ", splitter),
      h("span", {}, picker, h("label.button.small", { for: "files" }, "Choose files"))),
    h("p.quiet.tiny", { id: "texts-help" }, "Files: .txt, .jsonl (a text or an object a line) and .csv, also several at once."),
    fault);
  for (const name of ["dragenter", "dragover"]) {
    box.addEventListener(name, (event) => { event.preventDefault(); box.classList.add("over"); });
  }
  box.addEventListener("dragleave", (event) => box.contains(event.relatedTarget) || box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    take([...(event.dataTransfer?.files ?? [])]);
  });

  /** @param {File[]} chosen */
  async function take(chosen) {
    fault.textContent = "";
    for (const file of chosen) {
      if (held.reduce((sum, each) => sum + each.size, file.size) > MAX_BYTES) {
        fault.textContent = `${file.name} is too large for a page (${bytes(MAX_BYTES)} in all); use gleaner extract on the command line.`;
        continue;
      }
      const content = await file.text();
      const table = /\.(jsonl|ndjson|json)$/i.test(file.name) ? fromJsonl(content) : /\.(csv|tsv)$/i.test(file.name) ? fromCsv(content) : null;
      if (table && !table.rows.length) {
        fault.textContent = `${file.name} holds no row that can be read${table.faults.length ? `: ${table.faults[0]}` : ""}.`;
        continue;
      }
      held.push({
        name: file.name, size: file.size, table, content: table ? "" : content,
        text: table ? textColumn(table) : "", id: table ? idColumn(table) : "",
      });
    }
    picker.value = "";
    redraw();
    onchange();
  }

  function redraw() {
    area.hidden = held.length > 0;
    fill(files, held.map((file, index) => h("div.file", {},
      h("div.row.between", {}, h("strong", {}, h("bdi", {}, file.name)), h("button.button.small", {
        type: "button", "aria-label": `Remove ${file.name}`, onclick: () => { held.splice(index, 1); redraw(); onchange(); },
      }, "Remove")),
      h("p.quiet.tiny", {}, `${plural(documentsOf(file).length, "document")} · ${bytes(file.size)}`,
        file.table?.faults.length ? ` · left out: ${file.table.faults.slice(0, 3).join("; ")}` : ""),
      file.table && h("div.row", {},
        column("Text", file.table.columns, file.text, (value) => { file.text = value; }),
        column("Id", ["", ...file.table.columns], file.id, (value) => { file.id = value; })))));
  }

  function column(name, columns, current, set) {
    const select = h("select", { onchange: () => { set(select.value); redraw(); onchange(); } },
      columns.map((each) => h("option", { value: each, selected: each === current }, each || "by number")));
    return h("label.inline", {}, `${name} `, select);
  }

  /** @param {Held} file */
  const documentsOf = (file) => (file.table ? documents(file.table, file.text, file.id)
    : split(file.content, how).map((doc, index) => ({ id: how === "whole" ? file.name : `${file.name}#${index + 1}`, ...doc })));

  return {
    element: box,
    /** @param {string} text @param {string} [as] */
    set(text, as = "whole") {
      held = [];
      area.value = text;
      how = splitter.value = as;
      redraw();
      onchange();
    },
    /** @returns {import("../inputs.js").Doc[]} */
    documents() {
      const found = held.length ? held.flatMap(documentsOf) : split(area.value, how);
      const ids = found.map((doc) => doc.id).filter(Boolean);
      return new Set(ids).size === ids.length ? found : found.map(({ text }) => ({ text }));
    },
    empty: () => !held.length && !area.value.trim(),
  };
}
