/** One job: where it stands, how it went, what failed and why, and its results. */

import { copyButton, fill, h } from "../dom.js";
import { ago, between, duration, number, plural, when, words } from "../format.js";
import { jobButtons } from "../parts/jobs.js";
import { Loader } from "../parts/loader.js";
import { isTerminal, progress } from "../parts/progress.js";
import { Results } from "../parts/results.js";
import { problemBox } from "../problems.js";
import { to } from "../router.js";

const FIRST = 500;

/** @param {any} ctx @param {Element} root @param {any} route @param {AbortSignal} signal */
export function show(ctx, root, route, signal) {
  const page = new Job(ctx, route.id, signal);
  fill(root, page.element);
  page.begin();
  return "Job";
}

class Job {
  constructor(ctx, id, signal) {
    this._ctx = ctx;
    this._id = id;
    this._signal = signal;
    this._run = ctx.runs.get(id) ?? null;
    this._state = progress();
    this._buttons = h("div.row");
    this._facts = h("div.facts");
    this._fault = h("div");
    this._more = h("div.row.center");
    const own = this._run?.texts;
    this._results = new Results({
      name: id, labels: this._run?.labels ?? [], relations: this._run?.relations ?? [], floor: this._run?.floor ?? null, unit: this._run?.unit, threshold: this._run ? 0.5 : 0,
      textOf: (result) => result.text ?? own?.[result.index] ?? null,
    });
    this._loader = new Loader(ctx.api, id, signal, (found) => {
      this._results.add(found);
      const bare = found.some((each) => each.status === "succeeded" && each.text == null && each.redacted_text == null);
      if (bare && !own) this._results.note("without texts: the job did not keep them (return_text), and this page did not submit it");
    });
    this.element = h("div.page", {},
      h("p.tiny", {}, h("a", { href: "#/jobs" }, "← Jobs")),
      h("div.row.between.heading", {}, h("h1.mono", {}, id), h("div.row", {}, copyButton(id, "Copy id"), this._buttons)),
      this._fault, this._state, this._facts, h("h2", {}, "Results"), this._results.element, this._more);
  }

  async begin() {
    try {
      const job = await this._ctx.api.get(`v1/jobs/${encodeURIComponent(this._id)}`, {}, this._signal);
      this._draw(job);
      if (!isTerminal(job)) {
        for await (const now of this._ctx.api.follow(this._id, this._signal)) {
          this._draw(now);
          if (this._results.count < FIRST) await this._loader.pull(FIRST);
        }
      }
      await this._load();
    } catch (error) {
      if (this._signal.aborted) return;
      fill(this._fault, problemBox(error));
      if (error.status === 404 || error.status === 410) this._results.element.remove();
    }
  }

  async _load(most = FIRST) {
    fill(this._more);
    try {
      await this._loader.pull(most);
    } catch (error) {
      if (!this._signal.aborted) fill(this._fault, problemBox(error));
    }
    if (this._loader.done || this._signal.aborted) return;
    fill(this._more,
      h("button.button", { type: "button", onclick: () => this._load(FIRST) }, `Load ${FIRST} more`),
      h("button.button", { type: "button", onclick: () => this._load(Infinity) }, "Load all"));
  }

  _draw(job) {
    this._state.show(job);
    fill(this._buttons, jobButtons(this._ctx, job, (what) => (what === "purged" ? (location.hash = "#/jobs") : this._ctx.again())));
    fill(this._facts, timeline(job), usage(job), errors(job), more(job));
  }
}

function timeline(job) {
  const over = isTerminal(job);
  const steps = [
    ["Created", job.created_at, ""],
    ["Started", job.started_at, job.started_at ? `after ${duration(between(job.created_at, job.started_at))}` : ""],
    [over ? words(job.status) : "Ends by", over ? job.finished_at : job.deadline_at,
      over && job.started_at ? `after ${duration(between(job.started_at, job.finished_at))} of work` : ""],
    ["Results go", job.results_expire_at, job.results_expire_at ? ago(job.results_expire_at) : ""],
  ];
  return h("section.panel", {}, h("h2", {}, "Timeline"), h("ol.timeline", {}, steps.map(([name, moment, note]) => {
    const past = moment && Date.parse(moment) <= Date.now();
    return h(`li.${past ? "past" : "ahead"}`, {}, h("strong", {}, name), h("time", { datetime: moment }, when(moment)), h("span.quiet", {}, note));
  })));
}

function pairs(rows) {
  return h("dl.pairs", {}, rows.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function usage(job) {
  const { usage: used, counts } = job;
  const seconds = between(job.started_at, job.finished_at);
  return h("section.panel", {}, h("h2", {}, "Usage"), pairs([
    ["Documents", number(counts.total)],
    ["Characters", number(used.characters)],
    ["Windows", number(used.windows)],
    used.windowed_documents > 0 && ["Read in several windows", plural(used.windowed_documents, "document")],
    used.truncated_documents > 0 && ["Cut", plural(used.truncated_documents, "document")],
    seconds > 0 && ["Speed", `${number(Math.round(used.characters / seconds))} characters/s`],
    ["Model", job.model],
    job.model_revision && ["Revision", h("span.mono.clip", { title: job.model_revision }, job.model_revision)],
    typeof job.default_threshold === "number" && ["Default threshold", String(job.default_threshold)],
    ["Priority", job.priority],
  ]));
}

function errors(job) {
  const { counts } = job;
  const rows = job.error_summary;
  return h("section.panel", {}, h("h2", {}, "Outcomes"),
    pairs(["succeeded", "failed", "cancelled", "expired", "running", "queued"].map((state) => counts[state] > 0 && [state, number(counts[state])])),
    rows.length > 0 && h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Why documents failed"), h("th.num", { scope: "col" }, "Count"))),
      h("tbody", {}, rows.map((each) => h("tr", {}, h("td", {}, h("code", {}, each.code)), h("td.num", {}, number(each.count)))))),
    job.warnings.map((warning) => h("p.note", {}, warning)),
    counts.failed > 0 && h("p.quiet.tiny", {}, "“Not succeeded”, below, shows each with its reason."));
}

function more(job) {
  const rows = [
    ...Object.entries(job.metadata).map(([name, value]) => [h("bdi", {}, name), h("bdi", {}, value)]),
    job.label_set && ["Label set", h("bdi", {}, job.label_set)],
    job.retry_of && ["Retry of", h("a.mono", { href: to("jobs", job.retry_of) }, job.retry_of)],
    job.retried_by && ["Retried by", h("a.mono", { href: to("jobs", job.retried_by) }, job.retried_by)],
    ...Object.entries(job.urls).map(([name, value]) => [`API: ${name}`, h("code.clip", { title: value }, value)]),
  ];
  return h("section.panel", {}, h("h2", {}, "Details"), pairs(rows));
}
