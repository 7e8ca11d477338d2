/** The field of texts: pasted, or from files; answers the documents. */

import { fill, h } from "../dom.js";
import { bytes, plural } from "../format.js";
import { binaryKind, decode, ENCODINGS, split } from "../inputs.js";
import { documents, idColumn, readTable, textColumn } from "../tables.js";

export const MAX_DOCUMENTS = 20_000;
const MAX_BYTES = 64 * 1024 * 1024;
const TYPES = ".txt,.md,.jsonl,.ndjson,.csv,.tsv,.json";

/**
 * @typedef {{name: string, bytes: Uint8Array, encoding: string, table: import("../tables.js").Table|null, content: string|null,
 *   text: string, id: string, own: boolean, skip: boolean}} Held
 *   encoding: "" for UTF-8 or by its mark. content: null where the encoding is not known yet. own: rows bring their labels.
 *   skip: rows that cannot be read are left out by choice.
 */

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
    Object.entries({ whole: "one document", lines: "one document per line", blocks: "documents between blank lines" })
      .map(([value, text]) => h("option", { value }, text)));
  const box = h("div.drop", {},
    h("label", { for: "texts" }, "Texts"), area, files,
    h("div.row.between", {},
      h("label.inline", { for: "split" }, "Read as ", splitter),
      h("span", {}, picker, h("label.button.small", { for: "files" }, "Choose files"))),
    h("p.quiet.tiny", { id: "texts-help" }, "Files: .txt, .csv, .tsv, .json and .jsonl (one text or object per line), also several at once."),
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
      if (held.reduce((sum, each) => sum + each.bytes.length, file.size) > MAX_BYTES) {
        fault.textContent = `${file.name} is too large for a page (${bytes(MAX_BYTES)} in all); use gleaner extract on the command line.`;
        continue;
      }
      const data = new Uint8Array(await file.arrayBuffer());
      const kind = binaryKind(data);
      const taken = kind ? null : read({ name: file.name, bytes: data, encoding: "", skip: false });
      if (kind) fault.textContent = `${file.name} is ${kind}, which a page cannot read; save it as text, CSV or JSON lines.`;
      else if (taken.table && !taken.table.rows.length && !taken.table.broken) {
        fault.textContent = `${file.name} holds no row that can be read${taken.table.faults.length ? `: ${taken.table.faults[0]}` : ""}.`;
      } else held.push(taken);
    }
    picker.value = "";
    redraw();
    onchange();
  }

  /** The file again in its encoding. @returns {Held} */
  function read(file) {
    const content = decode(file.bytes, file.encoding || undefined);
    const table = content === null ? null : readTable(file.name, content);
    return {
      ...file, content, table, text: table ? textColumn(table) : "", id: table ? idColumn(table) : "", own: table?.ownLabels ?? false,
    };
  }

  /** Why the file cannot be submitted as it is, or "". @param {Held} file */
  function refusal(file) {
    if (file.content === null) return "is not UTF-8: choose its encoding";
    const { faults } = documentsOf(file);
    if (file.table?.broken) return `cannot be read: ${faults[0]}`;
    return faults.length && !file.skip ? `has ${plural(faults.length, "row")} that cannot be read` : "";
  }

  function redraw() {
    area.hidden = held.length > 0;
    fill(files, held.map((file, index) => h("div.file", {},
      h("div.row.between", {}, h("strong", {}, h("bdi", {}, file.name)), h("button.button.small", {
        type: "button", "aria-label": `Remove ${file.name}`, onclick: () => { held.splice(index, 1); redraw(); onchange(); },
      }, "Remove")),
      h("p.quiet.tiny", {}, [plural(documentsOf(file).docs.length, "document"), bytes(file.bytes.length), ...documentsOf(file).notes].join(" · ")),
      refusal(file) && h("p.fault.tiny", {}, `${refusal(file)}${file.table && !file.table.broken ? `: ${documentsOf(file).faults.slice(0, 3).join("; ")}` : ""}.`),
      h("div.row", {},
        file.table && column("Text", file.table.columns, file.text, (value) => { file.text = value; }),
        file.table && column("Id", ["", ...file.table.columns], file.id, (value) => { file.id = value; }),
        (file.content === null || file.encoding) && encodings(file, index),
        file.table?.ownLabels && check("Use the labels, relations, classifications and options of its rows", file.own, (on) => { file.own = on; }),
        file.table && !file.table.broken && documentsOf(file).faults.length > 0
          && check("Leave out rows that cannot be read", file.skip, (on) => { file.skip = on; })))));
  }

  function check(name, checked, set) {
    const box = h("input", { type: "checkbox", checked, onchange: () => { set(box.checked); redraw(); onchange(); } });
    return h("label.check", {}, box, h("span", {}, name));
  }

  /** @param {Held} file @param {number} index */
  function encodings(file, index) {
    const select = h("select", { onchange: () => { held[index] = read({ ...file, encoding: select.value }); redraw(); onchange(); } },
      h("option", { value: "" }, "choose"),
      Object.entries(ENCODINGS).map(([value, name]) => h("option", { value, selected: value === file.encoding }, name)));
    return h("label.inline", {}, "Encoding ", select);
  }

  function column(name, columns, current, set) {
    const select = h("select", { onchange: () => { set(select.value); redraw(); onchange(); } },
      columns.map((each) => h("option", { value: each, selected: each === current }, each || "by number")));
    return h("label.inline", {}, `${name} `, select);
  }

  /** @param {Held} file */
  function documentsOf(file) {
    if (file.table) return documents(file.table, file.text, file.id, file.own);
    const docs = split(file.content ?? "", how).map((doc, index) => ({ id: how === "whole" ? file.name : `${file.name}#${index + 1}`, ...doc }));
    return { docs, faults: [], notes: [] };
  }

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
    /** @returns {import("../tables.js").Doc[]} */
    documents() {
      const all = held.length ? held.flatMap((file) => documentsOf(file).docs) : split(area.value, how);
      const ids = all.map((doc) => doc.id).filter(Boolean);
      return new Set(ids).size === ids.length ? all : all.map(({ id: _, ...doc }) => doc);
    },
    /** Why not all of it can be submitted, or "". */
    refusal() {
      const file = held.find(refusal);
      return file ? `${file.name} ${refusal(file)}.` : "";
    },
    empty: () => !held.length && !area.value.trim(),
  };
}
