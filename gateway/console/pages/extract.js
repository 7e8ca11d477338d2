/** Texts and questions in, results out: submit, follow, and show. Built once; it stays as it was left. */

import { newKey } from "../api.js";
import { empty, fill, h } from "../dom.js";
import { plural } from "../format.js";
import { ndjson } from "../inputs.js";
import { chips } from "../parts/chips.js";
import { Loader } from "../parts/loader.js";
import { isTerminal, progress } from "../parts/progress.js";
import { questions } from "../parts/questions.js";
import { Results } from "../parts/results.js";
import { MAX_DOCUMENTS, texts } from "../parts/texts.js";
import { problemBox } from "../problems.js";
import { to } from "../router.js";
import { EXAMPLES, LABEL_SETS } from "../samples.js";
import { labelField, named, questionFields, taskRefusal } from "../tasks.js";

const INTERACTIVE = 32;
const CALM_MS = 400;

/** @param {any} ctx @param {Element} root */
export function show(ctx, root) {
  ctx.extract ??= new Extract(ctx);
  fill(root, ctx.extract.element);
  return "Extract";
}

class Extract {
  constructor(ctx) {
    this._ctx = ctx;
    /** @type {Map<string, string|null>} */
    this._labels = new Map();
    this._texts = texts({ onchange: () => this._changed() });
    /** @type {import("../tasks.js").Model[]} */
    this._models = [];
    this._chips = chips({ labels: this._labels, onchange: () => this._labelsChanged(), field: { id: "label-input", "aria-describedby": "label-help" } });
    this._questions = questions({ labels: this._labels, onchange: () => this._changed() });
    this._button = h("button.button.primary.wide", { type: "submit" }, "Extract");
    this._hint = h("p.quiet.tiny", { id: "submit-hint" });
    this._output = h("div.output", {});
    this._stop = new AbortController();
    this._submitting = false;
    this.element = h("div.two", {}, this._form(), this._output);
    this._welcome();
    this._changed();
  }

  _form() {
    const select = (id, values) => h("select", { id }, Object.entries(values).map(([value, text]) => h("option", { value }, text)));
    const check = (id, text, on = false) => h("label.check", { for: id }, h("input", { type: "checkbox", id, checked: on }), h("span", {}, text));
    this._flat = select("flat", { true: "Flat: no two overlap", false: "Nested: one inside another" });
    this._floor = select("floor", { 0.05: ".05", 0.1: ".10", 0.3: ".30", 0.5: ".50" });
    this._floor.value = "0.1";
    this._unit = select("unit", { codepoint: "Characters, as Python", utf16: "UTF-16 units, as JavaScript", byte: "Bytes of UTF-8" });
    this._long = select("long", { window: "Read all of it, in windows", truncate: "Cut it", reject: "Refuse it" });
    this._redact = select("redact", { "": "No", label: "By label: [PERSON]", mask: "Masked: ******" });
    this._model = h("select", { id: "model", onchange: () => this._modelChanged() }, h("option", { value: "" }, "default"));
    this._questions.element.addEventListener("toggle", () => this._questions.element.open && this._loadModels());
    this._name = h("input", { type: "text", id: "job-name", maxlength: 200, autocomplete: "off", dir: "auto" });
    const field = (name, control) => h("div.field", {}, h("label", { for: control.id }, name), control);
    const form = h("form.panel.composer", {
      "aria-label": "New extraction",
      onsubmit: (event) => { event.preventDefault(); this._submit(); },
      onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this._submit(); } },
    },
      this._texts.element,
      h("div.field", {},
        h("label", { for: "label-input" }, "Labels"), this._chips,
        h("p.quiet.tiny", { id: "label-help" }, "Any words. With a description to the end of its line: ", h("code", {}, "drug: a medicine, by name")),
        h("div.row.suggestions", { role: "group", "aria-label": "Sets of labels" }, Object.entries(LABEL_SETS).map(([name, labels]) =>
          h("button.button.small", { type: "button", onclick: () => this._useLabels(labels) }, name)))),
      this._questions.element,
      h("details.disclosure", {}, h("summary", {}, "Options"),
        h("div.fields", {},
          field("Entities", this._flat), field("Keep scores from", this._floor), field("Long texts", this._long), field("Offsets count", this._unit), field("Redact texts", this._redact),
          field("Model", this._model), field("Name of the job", this._name)),
        check("multi", "One span may have several labels"),
        check("merge", "Make one entity of adjacent ones of a label"),
        check("explain", "Explain entities: the labels that came next, in the table"),
        check("keep", "Keep texts with the results, to see them highlighted later and elsewhere")),
      h("div.submit", {}, this._button, this._hint));
    this._loadModels();
    return form;
  }

  async _loadModels() {
    try {
      const { data } = await this._ctx.api.get("v1/models");
      const chosen = this._model.value;
      this._models = data;
      fill(this._model, data.map((model) => h("option", { value: model.default ? "" : model.name, selected: chosen === (model.default ? "" : model.name) },
        `${model.name}${model.available ? "" : " (no worker now; jobs wait)"}`)));
    } catch { /* the default model can be used without a list */ }
    this._modelChanged();
  }

  /** The chosen model, once the list is read. @returns {any} */
  get _chosenModel() {
    return this._models.find((model) => (this._model.value ? model.name === this._model.value : model.default));
  }

  _modelChanged() {
    this._questions.offer(this._models, this._chosenModel);
    this._changed();
  }

  _labelsChanged() {
    this._questions.labelsChanged();
    this._changed();
  }

  _useLabels(labels) {
    this._labels.clear();
    for (const label of labels) this._labels.set(label, null);
    this._chips.redraw();
    this._labelsChanged();
  }

  _welcome() {
    fill(this._output, empty("Nothing extracted yet",
      "Paste texts or drop a file, name what you are looking for, and press Extract. Entities appear here, highlighted, while the job runs.",
      h("div.row.center", {}, Object.entries(EXAMPLES).map(([name, example]) => h("button.button", {
        type: "button",
        onclick: () => { this._texts.set(example.text, "blocks"); this._useLabels(example.labels); this._button.focus(); },
      }, `Try: ${name}`)))));
  }

  _changed() {
    const count = this._texts.empty() ? 0 : this._texts.documents().length;
    const missing = !this._ctx.may("submitter") ? "This key may only read; submitting needs a submitter's."
      : this._texts.refusal() || (!count ? "Add a text first."
        : count > MAX_DOCUMENTS ? `At most ${plural(MAX_DOCUMENTS, "document")} in a page; use gleaner extract for more.` : "") || this._taskRefusal();
    this._button.disabled = this._submitting || Boolean(missing);
    this._button.textContent = this._submitting ? "Submitting…" : count > 1 ? `Extract from ${plural(count, "document")}` : "Extract";
    this._hint.textContent = missing || "Ctrl + Enter works, too.";
  }

  /** Why the labels and questions cannot be submitted, or "". */
  _taskRefusal() {
    const { classifications } = this._questions.state;
    const model = this._chosenModel;
    if (!this._labels.size) return this._questions.refusal() || (classifications.length ? "" : "Add at least one label.");
    const most = model?.limits?.labels ?? Infinity;
    if (this._labels.size > most) return `${model.name} takes at most ${plural(most, "label")}; ${this._labels.size} are named.`;
    const noEntities = model?.tasks ? taskRefusal(this._models, model, "entities") : "";
    return noEntities ? `${noEntities} Remove the labels.` : this._questions.refusal();
  }

  _head(count) {
    const redact = this._redact.value;
    const floor = Number(this._floor.value);
    const fields = questionFields(this._questions.state, floor);
    const name = this._name.value.trim();
    return {
      ...(this._labels.size ? { labels: labelField(this._labels) } : {}),
      ...fields,
      options: {
        threshold: floor, ...(fields.relations ? { relation_threshold: floor } : {}), flat: this._flat.value === "true", multi_label: this._checked("multi"),
        long_text: this._long.value, offset_unit: this._unit.value, return_text: !redact && this._checked("keep"),
        explain: this._checked("explain"), ...(this._checked("merge") ? { merge_adjacent: true } : {}), ...(redact ? { redact: { mode: redact } } : {}),
      },
      priority: count <= INTERACTIVE ? "interactive" : "standard",
      ...(this._model.value ? { model: this._model.value } : {}),
      ...(name ? { metadata: { name } } : {}),
    };
  }

  _checked(id) {
    return this.element.querySelector(`#${id}`).checked;
  }

  async _submit() {
    this._changed();
    if (this._button.disabled) return;
    const documents = this._texts.documents();
    const labels = [...this._labels.keys()];
    const relations = this._questions.state.relations.map((each) => named(each.typed).name);
    const head = this._head(documents.length);
    this._submitting = true;
    this._changed();
    this.stop();
    this._stop = new AbortController();
    const { signal } = this._stop;
    try {
      const job = await this._ctx.api.call("POST", "v1/jobs", {
        body: new Blob(ndjson(head, documents)),
        headers: { "Content-Type": "application/x-ndjson", "Idempotency-Key": newKey() },
      });
      if (signal.aborted) return;
      this._ctx.runs.set(job.id, { texts: documents.map((doc) => doc.text), labels, relations, floor: head.options.threshold, unit: head.options.offset_unit });
      this._follow(job, signal);
    } catch (error) {
      fill(this._output, problemBox(error));
    } finally {
      this._submitting = false;
      this._changed();
    }
  }

  /** Follow the job no further. */
  stop() {
    this._stop.abort();
  }

  async _follow(job, signal) {
    const { texts: own, labels, relations, floor, unit } = this._ctx.runs.get(job.id);
    const state = progress();
    const results = new Results({ name: job.id, labels, relations, floor, unit, threshold: 0.5, textOf: (result) => own[result.index] ?? null });
    const fault = h("div");
    const buttons = h("div.row");
    fill(this._output,
      h("div.panel", {}, h("div.row.between", {}, h("a.mono", { href: to("jobs", job.id) }, job.id), buttons), state, fault),
      results.element);
    if (innerWidth < 1000) this._output.scrollIntoView({ block: "start", behavior: "smooth" });
    const loader = new Loader(this._ctx.api, job.id, signal, (found) => results.add(found));
    const cancel = h("button.button.small", {
      type: "button", onclick: () => this._ctx.api.call("POST", `v1/jobs/${job.id}/cancel`).catch((error) => fill(fault, problemBox(error))),
    }, "Cancel");
    const shown = (now) => {
      state.show(now);
      fill(buttons, !isTerminal(now) && cancel);
    };
    shown(job);
    try {
      let last = 0;
      for await (const now of this._ctx.api.follow(job.id, signal)) {
        shown(now);
        if (Date.now() - last < CALM_MS && !isTerminal(now)) continue;
        last = Date.now();
        await loader.pull();
      }
      await loader.pull();
    } catch (error) {
      if (!signal.aborted) fill(fault, problemBox(error, () => this._follow(job, signal)));
    }
  }
}
