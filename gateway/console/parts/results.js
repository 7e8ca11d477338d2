/** Results of a job: filter, legend, texts or table, paged; what is downloaded is what is shown. */

import { download, empty, fill, h } from "../dom.js";
import { toCsv, toJsonl } from "../exports.js";
import { countByLabel, filtered, newFilter, passes, thresholdOf } from "../filter.js";
import { number, plural, score } from "../format.js";
import { markedText, tag } from "./marked.js";
import { pill } from "./progress.js";

const DOCUMENTS_A_PAGE = 20, ROWS_A_PAGE = 100;

/**
 * @typedef {Object} Options
 * @property {string} name of downloaded files
 * @property {string[]} labels known before any result
 * @property {number|null} floor the lowest score that results hold; null where the page does not know
 * @property {number} threshold to begin with
 * @property {"utf16"|"codepoint"|"byte"} [unit] what offsets count, where it is known
 * @property {(result: any) => string|null} textOf the document's text, where the page has it
 */
export class Results {
  /** @param {Options} options */
  constructor({ name, labels, floor, threshold, textOf, unit }) {
    this._unit = unit;
    this._name = name;
    this._textOf = textOf;
    this._known = floor !== null;
    this._floor = floor ?? 0;
    /** @type {any[]} */
    this._results = [];
    this._hues = new Map(labels.map((label, index) => [label, index]));
    this._filter = newFilter(Math.max(threshold, this._floor));
    this._view = "text";
    this._which = "all";
    this._page = 0;
    this._due = 0;
    this._note = "";
    this._drawn = "";
    this._hueOf = (/** @type {string} */ label) => this._hues.get(label) ?? 0;
    this._build();
    this.redraw();
  }

  /** @param {any[]} results in input order */
  add(results) {
    for (const result of results) {
      this._results.push(result);
      for (const { label } of result.entities) if (!this._hues.has(label)) this._hues.set(label, this._hues.size);
    }
    if (results.length) this._soon();
  }

  get count() {
    return this._results.length;
  }

  /** Say beside the pages what they do not hold. @param {string} text */
  note(text) {
    this._note = text;
    this._soon();
  }

  _build() {
    this._slider = h("input", {
      type: "range", min: this._floor, max: 1, step: 0.01, value: this._filter.threshold, "aria-describedby": "threshold-note",
      oninput: () => { this._filter.threshold = Number(this._slider.value); this._page = 0; this._soon(); },
    });
    this._output = h("output", {});
    this._legend = h("ul.legend", { "aria-label": "Labels" });
    this._own = h("div.own");
    this._pages = h("nav.pages", { "aria-label": "Pages of results" });
    this._list = h("div.documents", { tabindex: -1 });
    this._summary = h("p.quiet.summary", { role: "status" });
    const choice = (name, values, current, set) => h("div.segmented", { role: "group", "aria-label": name },
      Object.entries(values).map(([value, text]) => h("button", {
        type: "button", "aria-pressed": String(value === current),
        onclick: (event) => {
          for (const each of event.currentTarget.parentElement.children) each.setAttribute("aria-pressed", String(each === event.currentTarget));
          set(value);
          this._page = 0;
          this.redraw();
        },
      }, text)));
    this.element = h("section.results", { "aria-label": "Results" },
      h("div.toolbar", {},
        h("label.threshold", {}, h("span", {}, "Threshold"), this._slider, this._output),
        choice("View", { text: "Text", table: "Table" }, this._view, (v) => { this._view = v; }),
        choice("Documents", { all: "All", found: "With entities", failed: "Not succeeded" }, this._which, (v) => { this._which = v; })),
      h("p.quiet.tiny", { id: "threshold-note" },
        `${this._known ? `The model kept what scores ${score(this._floor)} or more.` : "What is here reached the job's own threshold."} Thresholds filter here in the page, at once and without asking it again; downloads hold what is shown.`),
      this._legend,
      h("details.disclosure", {}, h("summary", {}, "A threshold for each label"), this._own),
      h("div.row.between", {}, this._summary, h("div.row", {}, h("span.quiet", {}, "Download"),
        h("button.button.small", { type: "button", "aria-label": "Download JSONL", onclick: () => this._download("jsonl") }, "JSONL"),
        h("button.button.small", { type: "button", "aria-label": "Download CSV", onclick: () => this._download("csv") }, "CSV"))),
      this._list, this._pages);
  }

  _soon() {
    if (this._due) return;
    this._due = requestAnimationFrame(() => { this._due = 0; this.redraw(); });
  }

  redraw() {
    this._output.textContent = score(this._filter.threshold);
    const counts = countByLabel(this._results, this._hues.keys(), this._filter);
    this._drawLegend(counts);
    this._drawOwn();
    const shown = this._chosen();
    const rows = this._view === "text" ? shown : this._rows(shown);
    const size = this._view === "text" ? DOCUMENTS_A_PAGE : ROWS_A_PAGE;
    this._page = Math.min(this._page, Math.max(0, Math.ceil(rows.length / size) - 1));
    const part = rows.slice(this._page * size, (this._page + 1) * size);
    const entities = [...counts].reduce((sum, [label, count]) => sum + (this._filter.hidden.has(label) ? 0 : count), 0);
    this._summary.textContent = `${plural(entities, "entity", "entities")} in ${plural(this._results.length, "document")}${this._note ? ` · ${this._note}` : ""}`;
    this._drawPages(rows.length, size, this._view === "text" ? "document" : "row");
    const key = JSON.stringify([this._view, this._filter.threshold, [...this._filter.byLabel], [...this._filter.hidden],
      part.map((each) => (this._view === "text" ? each.index : [each.result.index, each.entity.start, each.entity.end, each.entity.label]))]);
    if (part.length && key === this._drawn) return; // what is read, unfolded or selected there stays so
    this._drawn = key;
    if (!part.length) fill(this._list, this._results.length ? empty("Nothing to show", "No document fits these filters. Lower the threshold, or show all documents.") : "");
    else if (this._view === "text") fill(this._list, part.map((result) => this._card(result)));
    else fill(this._list, this._table(part));
  }

  _chosen() {
    if (this._which === "failed") return this._results.filter((result) => result.status !== "succeeded");
    if (this._which === "found") return this._results.filter((result) => result.entities.some((each) => passes(this._filter, each)));
    return this._results;
  }

  _rows(results) {
    return results.flatMap((result) => result.entities.filter((each) => passes(this._filter, each)).map((entity) => ({ result, entity })));
  }

  _drawLegend(counts) {
    const toggle = (label) => {
      if (!this._filter.hidden.delete(label)) this._filter.hidden.add(label);
      this._page = 0;
      this._soon();
    };
    const known = new Map([...this._legend.children].map((item) => [item.dataset.label, item]));
    for (const [label, hue] of this._hues) {
      let item = known.get(label);
      if (!item) {
        item = h("li", { data: { label } }, h("button", { type: "button", data: { hue: String(hue % 8) }, onclick: () => toggle(label) },
          h("span.swatch", { aria: { hidden: true } }), h("bdi", {}, label), h("span.count", {})));
        this._legend.append(item);
      }
      const button = item.firstElementChild;
      button.setAttribute("aria-pressed", String(!this._filter.hidden.has(label)));
      button.lastElementChild.textContent = number(counts.get(label) ?? 0);
    }
  }

  _drawOwn() {
    const missing = [...this._hues.keys()].slice(this._own.children.length);
    for (const label of missing) {
      const output = h("output", {});
      const input = h("input", {
        type: "range", min: this._floor, max: 1, step: 0.01, value: this._filter.threshold,
        oninput: () => { this._filter.byLabel.set(label, Number(input.value)); this._page = 0; this._soon(); },
      });
      const same = h("button.button.small", {
        type: "button", "aria-label": `${label}: as all`, onclick: () => { this._filter.byLabel.delete(label); this._soon(); },
      }, "as all");
      this._own.append(h("div.threshold", { data: { label } }, h("label", {}, h("bdi", {}, label), input), output, same));
    }
    for (const line of this._own.children) {
      const label = line.dataset.label;
      const own = this._filter.byLabel.has(label);
      const value = thresholdOf(this._filter, label);
      line.querySelector("input").value = String(value);
      line.querySelector("output").textContent = score(value);
      line.querySelector("button").hidden = !own;
    }
  }

  _card(result) {
    const { entities } = filtered(result, this._filter);
    const text = result.redacted_text ?? this._textOf(result);
    const placed = "redacted_text" in result ? entities.map((each) => ({ ...each, start: each.redacted_start, end: each.redacted_end })) : entities;
    const marked = text === null ? null : markedText(text, placed, this._hueOf, this._unit);
    const facts = [
      result.status === "succeeded" && plural(entities.length, "entity", "entities"),
      result.windows > 1 && `read in ${plural(result.windows, "window")}`,
      result.truncated && "cut",
      "redacted_text" in result && "redacted",
      ...result.warnings,
    ].filter(Boolean);
    return h("article.document", {},
      h("header", {}, h("h3", {}, h("bdi", {}, result.id)), result.status !== "succeeded" && pill(result.status),
        h("span.quiet", {}, facts.join(" · "))),
      result.error && h("p.fault", {}, h("code", {}, result.error.code), " ", result.error.detail,
        result.error.retryable ? " A retry may succeed." : ""),
      marked ?? (entities.length > 0 && h("p.loose", {}, entities.slice(0, 200).map((each) =>
        [h("bdi.found", {}, each.text), tag(each, this._hueOf), " "]))));
  }

  _table(rows) {
    const explained = rows.some(({ entity }) => entity.explain);
    return h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Entities" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Document", "Text", "Label", "Score", "Start", "End"].map((name, index) =>
        h(index > 2 ? "th.num" : "th", { scope: "col" }, name)),
      explained && [h("th.num", { scope: "col" }, "Right in"), h("th", { scope: "col" }, "Next best")])),
      h("tbody", {}, rows.map(({ result, entity }) => h("tr", {},
        h("td", {}, h("bdi", {}, result.id)), h("td", {}, h("bdi", {}, entity.text)),
        h("td", {}, h("span.named", {}, h("span.swatch", { data: { hue: String(this._hueOf(entity.label) % 8) }, aria: { hidden: true } }), h("bdi", {}, entity.label))),
        h("td.num", {}, entity.score.toFixed(3)), h("td.num", {}, entity.start), h("td.num", {}, entity.end),
        explained && why(entity.explain))))));
  }

  _drawPages(total, size, what) {
    const last = Math.max(0, Math.ceil(total / size) - 1);
    const go = (page) => {
      this._page = page;
      this.redraw();
      this._list.focus({ preventScroll: true });
      this.element.scrollIntoView({ block: "start" });
    };
    const button = (text, name, page, off) => h("button.button.small", { type: "button", "aria-label": name, disabled: off, onclick: () => go(page) }, text);
    fill(this._pages, total > size && [
      button("«", "First page", 0, this._page === 0),
      button("‹ Previous", "Previous page", this._page - 1, this._page === 0),
      h("span", {}, `${what}s ${number(this._page * size + 1)}–${number(Math.min(total, (this._page + 1) * size))} of ${number(total)}`),
      button("Next ›", "Next page", this._page + 1, this._page === last),
      button("»", "Last page", last, this._page === last)]);
  }

  /** @param {"jsonl"|"csv"} kind */
  _download(kind) {
    const results = this._results.map((result) => filtered(result, this._filter));
    const [lines, type] = kind === "csv" ? [toCsv(results), "text/csv"] : [toJsonl(results), "application/x-ndjson"];
    download(`${this._name}.${kind}`, new Blob(lines, { type }));
  }
}

/** Why an entity was found: how often such a score is right, and which labels came next. @param {any} explain */
function why(explain) {
  const next = (explain?.runners_up ?? []).filter((each) => each.score >= 0.01);
  return [
    h("td.num", {}, explain?.confidence === null || !explain ? "–" : `${Math.round(100 * explain.confidence)} %`),
    h("td", {}, next.length ? next.map((each) => `${each.label} ${score(each.score)}`).join(", ") : "–"),
  ];
}
