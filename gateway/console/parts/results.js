/** Results of a job: filters, legends, texts or tables, paged; downloads hold the part that is shown. */

import { download, empty, fill, h } from "../dom.js";
import { toCsv, toJsonl } from "../exports.js";
import { countByLabel, countRelations, filtered, newFilter, passes, thresholdOf } from "../filter.js";
import { number, plural, score } from "../format.js";
import { classBars } from "./classes.js";
import { markedText, tag } from "./marked.js";
import { pill } from "./progress.js";
import { relationTable } from "./relations.js";
import { VIEWS } from "./views.js";

const DOCUMENTS_A_PAGE = 20, ROWS_A_PAGE = 100;
const MANY_LABELS = 100; // a model with label vectors takes thousands
const GREY = 7; // the hue of relations, which have no colours

/**
 * @typedef {Object} Options
 * @property {string} name of downloaded files
 * @property {string[]} labels known before any result
 * @property {string[]} [relations] likewise
 * @property {number|null} floor the lowest score that results hold; null where the page does not know
 * @property {number} threshold to begin with
 * @property {"utf16"|"codepoint"|"byte"} [unit] what offsets count, where it is known
 * @property {(result: any) => string|null} textOf the document's text, where the page has it
 */
export class Results {
  /** @param {Options} options */
  constructor({ name, labels, relations = [], floor, threshold, textOf, unit }) {
    this._unit = unit;
    this._name = name;
    this._textOf = textOf;
    this._known = floor !== null;
    this._floor = floor ?? 0;
    /** @type {any[]} */
    this._results = [];
    this._hues = new Map(labels.map((label, index) => [label, index]));
    /** Labels of the legend: of many only those that were found. */
    this._listed = new Set(labels.length > MANY_LABELS ? [] : labels);
    this._relationNames = new Set(relations);
    this._filter = newFilter(Math.max(threshold, this._floor));
    this._relationFilter = newFilter(Math.max(threshold, this._floor));
    this._hasClasses = false;
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
      for (const { label } of result.entities) {
        if (!this._hues.has(label)) this._hues.set(label, this._hues.size);
        this._listed.add(label);
      }
      for (const { label } of result.relations ?? []) this._relationNames.add(label);
      this._hasClasses ||= result.classifications !== undefined;
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
    this._slider = this._thresholdSlider("Threshold", this._filter);
    this._relationSlider = this._thresholdSlider("Threshold of relations", this._relationFilter);
    this._legend = h("ul.legend", { "aria-label": "Labels" });
    this._relationLegend = h("ul.legend", { "aria-label": "Relations" });
    this._own = h("div.own");
    this._pages = h("nav.pages", { "aria-label": "Pages of results" });
    this._list = h("div.documents", { tabindex: -1 });
    this._summary = h("p.quiet.summary", { role: "status" });
    const choice = (name, values, current, set) => h("div.segmented", { role: "group", "aria-label": name },
      Object.entries(values).map(([value, text]) => h("button", {
        type: "button", "aria-pressed": String(value === current), data: { value },
        onclick: (event) => {
          for (const each of event.currentTarget.parentElement.children) each.setAttribute("aria-pressed", String(each === event.currentTarget));
          set(value);
          this._page = 0;
          this.redraw();
        },
      }, text)));
    this._csv = h("button.button.small", { type: "button", onclick: () => this._download("csv") });
    const titles = Object.entries(VIEWS).map(([value, { title }]) => [value, title]);
    this._views = choice("View", { text: "Text", ...Object.fromEntries(titles) }, this._view, (v) => { this._view = v; });
    this.element = h("section.results", { "aria-label": "Results" },
      h("div.toolbar", {},
        this._slider, this._relationSlider, this._views,
        choice("Documents", { all: "All", found: "With entities", failed: "Not succeeded" }, this._which, (v) => { this._which = v; })),
      h("p.quiet.tiny", { id: "threshold-note" },
        `${this._known ? `The model kept what scores ${score(this._floor)} or more.` : "What is here reached the job's own threshold."} Thresholds filter here in the page, at once and without asking it again; downloads hold what is shown.`),
      this._legend, this._relationLegend,
      h("details.disclosure", {}, h("summary", {}, "A threshold for each label"), this._own),
      h("div.row.between", {}, this._summary, h("div.row", {}, h("span.quiet", {}, "Download"),
        h("button.button.small", { type: "button", "aria-label": "Download JSONL", onclick: () => this._download("jsonl") }, "JSONL"),
        this._csv)),
      this._list, this._pages);
  }

  /** @param {string} name @param {import("../filter.js").Filter} filter */
  _thresholdSlider(name, filter) {
    const output = h("output", {}, score(filter.threshold));
    const input = h("input", {
      type: "range", min: this._floor, max: 1, step: 0.01, value: filter.threshold, "aria-describedby": "threshold-note",
      oninput: () => { filter.threshold = Number(input.value); output.textContent = score(filter.threshold); this._page = 0; this._soon(); },
    });
    return h("label.threshold", {}, h("span", {}, name), input, output);
  }

  _soon() {
    if (this._due) return;
    this._due = requestAnimationFrame(() => { this._due = 0; this.redraw(); });
  }

  redraw() {
    const counts = countByLabel(this._results, this._listed, this._filter);
    const relationCounts = this._relationNames.size ? countRelations(this._results, this._relationNames, this._filter, this._relationFilter) : new Map();
    this._drawLegend(this._legend, counts, this._filter, this._hueOf);
    this._drawLegend(this._relationLegend, relationCounts, this._relationFilter, () => GREY);
    this._drawOwn();
    this._offerViews();
    const view = VIEWS[this._view];
    const chosen = this._chosen();
    const rows = view ? view.rows(chosen.map((result) => this._filtered(result))) : chosen;
    const size = view ? ROWS_A_PAGE : DOCUMENTS_A_PAGE;
    this._page = Math.min(this._page, Math.max(0, Math.ceil(rows.length / size) - 1));
    const part = rows.slice(this._page * size, (this._page + 1) * size);
    this._summarize(counts, relationCounts);
    this._drawPages(rows.length, size, view?.noun ?? "document");
    const filters = [this._filter, this._relationFilter].map(({ threshold, byLabel, hidden }) => [threshold, [...byLabel], [...hidden]]);
    const key = JSON.stringify([this._view, filters, part.map((each) => (view ? view.key(each) : each.index))]);
    if (part.length && key === this._drawn) return; // the reader's place, unfolded parts and selection stay
    this._drawn = key;
    if (!part.length) fill(this._list, this._results.length ? empty("Nothing to show", "No document fits these filters. Lower the threshold, or show all documents.") : "");
    else fill(this._list, view ? view.table(part, this._hueOf) : part.map((result) => this._card(result)));
  }

  /** The result as it is shown. */
  _filtered(result) {
    return filtered(result, this._filter, this._relationFilter);
  }

  /** Show the controls of relations and of classes only where there are any, and name the table that CSV contains. */
  _offerViews() {
    const offered = { relations: this._relationNames.size > 0, classes: this._hasClasses };
    const table = VIEWS[this._view]?.csv ?? "entities";
    this._csv.textContent = table === "entities" ? "CSV" : `CSV of ${table}`;
    this._csv.setAttribute("aria-label", `Download ${this._csv.textContent}`);
    for (const button of this._views.children) button.hidden = !(offered[button.dataset.value] ?? true);
    this._relationSlider.hidden = this._relationLegend.hidden = !offered.relations;
  }

  _summarize(counts, relationCounts) {
    const sum = (all, filter) => [...all].reduce((total, [label, count]) => total + (filter.hidden.has(label) ? 0 : count), 0);
    const found = [
      plural(sum(counts, this._filter), "entity", "entities"),
      this._relationNames.size > 0 && plural(sum(relationCounts, this._relationFilter), "relation"),
    ].filter(Boolean).join(" and ");
    this._summary.textContent = `${found} in ${plural(this._results.length, "document")}${this._note ? ` · ${this._note}` : ""}`;
  }

  _chosen() {
    if (this._which === "failed") return this._results.filter((result) => result.status !== "succeeded");
    if (this._which === "found") return this._results.filter((result) => result.entities.some((each) => passes(this._filter, each)));
    return this._results;
  }

  /** @param {Element} legend @param {Map<string, number>} counts @param {import("../filter.js").Filter} filter @param {(name: string) => number} hueOf */
  _drawLegend(legend, counts, filter, hueOf) {
    const toggle = (label) => {
      if (!filter.hidden.delete(label)) filter.hidden.add(label);
      this._page = 0;
      this._soon();
    };
    const known = new Map([...legend.children].map((item) => [item.dataset.label, item]));
    for (const [label, count] of counts) {
      let item = known.get(label);
      if (!item) {
        item = h("li", { data: { label } }, h("button", { type: "button", data: { hue: String(hueOf(label) % 8) }, onclick: () => toggle(label) },
          h("span.swatch", { aria: { hidden: true } }), h("bdi", {}, label), h("span.count", {})));
        legend.append(item);
      }
      const button = item.firstElementChild;
      button.setAttribute("aria-pressed", String(!filter.hidden.has(label)));
      button.lastElementChild.textContent = number(count);
    }
  }

  _drawOwn() {
    const missing = [...this._listed].slice(this._own.children.length);
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
    const shown = this._filtered(result);
    const { entities } = shown;
    const text = result.redacted_text ?? this._textOf(result);
    const placed = "redacted_text" in result ? entities.map((each) => ({ ...each, start: each.redacted_start, end: each.redacted_end })) : entities;
    const marked = text === null ? null : markedText(text, placed, this._hueOf, this._unit);
    const facts = [
      result.status === "succeeded" && plural(entities.length, "entity", "entities"),
      shown.relations && plural(shown.relations.length, "relation"),
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
      result.classifications && classBars(result.classifications),
      marked ?? (entities.length > 0 && h("p.loose", {}, entities.slice(0, 200).map((each) =>
        [h("bdi.found", {}, each.text), tag(each, this._hueOf), " "]))),
      shown.relations?.length > 0 && relationTable(shown, marked));
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
    const results = this._results.map((result) => this._filtered(result));
    const table = VIEWS[this._view]?.csv ?? "entities";
    const [lines, type] = kind === "csv" ? [toCsv(results, table), "text/csv"] : [toJsonl(results), "application/x-ndjson"];
    const suffix = kind === "csv" && table !== "entities" ? `-${table}` : "";
    download(`${this._name}${suffix}.${kind}`, new Blob(lines, { type }));
  }
}
