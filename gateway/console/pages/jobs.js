/** Jobs of the tenant: newest first, by status, searched among those that are loaded. */

import { every } from "../api.js";
import { empty, fill, h, keepingFocus } from "../dom.js";
import { ago, between, duration, number, plural, when } from "../format.js";
import { jobButtons } from "../parts/jobs.js";
import { bar, isTerminal, pill } from "../parts/progress.js";
import { problemBox } from "../problems.js";
import { to } from "../router.js";

const REFRESH_MS = 3000, A_PAGE = 50;
/** Calls for a page of jobs of a rare status; a button goes on from there. */
const MOST_CALLS = 5;
const STATES = {
  "": "All", "queued,running,cancelling": "Open", succeeded: "Succeeded", "partially_succeeded,failed": "With failures",
  "cancelled,expired": "Cancelled or expired",
};

/** @param {any} ctx @param {Element} root @param {any} route @param {AbortSignal} signal */
export function show(ctx, root, route, signal) {
  const page = new Jobs(ctx, route.query.get("status") ?? "", signal);
  fill(root, page.element);
  every(REFRESH_MS, () => page.look(), signal);
  return "Jobs";
}

/**
 * What is loaded, once its newest page was read again. Pure.
 * @param {any[]} jobs newest first @param {{data: any[], next_cursor: string|null}} page
 */
export function refreshed(jobs, page) {
  if (page.next_cursor === null) return page.data;
  const fresh = new Set(page.data.map((job) => job.id));
  const oldest = page.data.at(-1);
  return [...page.data, ...jobs.filter((job) => !fresh.has(job.id) && (!oldest || job.created_at <= oldest.created_at))];
}

class Jobs {
  constructor(ctx, status, signal) {
    this._ctx = ctx;
    this._status = status in STATES ? status : "";
    /** @type {any[]} */
    this._jobs = [];
    this._cursor = null;
    this._signal = signal;
    this._search = h("input", {
      type: "search", id: "job-search", placeholder: "Id or metadata", autocomplete: "off", oninput: () => this._draw(),
      onkeydown: (event) => { if (event.key === "Enter" && /^job_\w+$/.test(this._search.value.trim())) location.hash = to("jobs", this._search.value.trim()); },
    });
    this._body = h("div", {});
    this._fault = h("div", {});
    this._told = h("p.quiet", { role: "status" });
    const select = h("select", { id: "job-status", onchange: () => { this._status = select.value; this._anew(); } },
      Object.entries(STATES).map(([value, text]) => h("option", { value, selected: value === this._status }, text)));
    this.element = h("div.page", {},
      h("div.row.between.heading", {}, h("h1", {}, "Jobs"), h("div.row", {},
        h("label.inline", { for: "job-status" }, "Status ", select), h("label.inline", { for: "job-search" }, "Search ", this._search))),
      this._fault, this._told, this._body);
  }

  _anew() {
    this._jobs = [];
    this.look();
  }

  /** The newest page, or the one behind what is loaded. */
  async look(more = false) {
    if (document.querySelector("dialog[open]")) return;
    const status = this._status;
    try {
      const query = { limit: A_PAGE, cursor: more ? this._cursor : null, status: status ? status.split(",") : null };
      let page = await this._ctx.api.get("v1/jobs", query, this._signal);
      // The service looks at some hundred jobs a call: of a rare status the first pages may hold none.
      for (let calls = 1; !page.data.length && page.next_cursor && calls < MOST_CALLS; calls++) {
        page = await this._ctx.api.get("v1/jobs", { ...query, cursor: page.next_cursor }, this._signal);
      }
      if (status !== this._status) return; // another list was asked for meanwhile
      this._jobs = more ? [...this._jobs, ...page.data] : refreshed(this._jobs, page);
      if (more || this._jobs.length === page.data.length) this._cursor = page.next_cursor;
      fill(this._fault);
      keepingFocus(this._body, () => this._draw());
    } catch (error) {
      if (!this._signal.aborted) fill(this._fault, problemBox(error, () => this.look(more)));
    }
  }

  _draw() {
    const wanted = this._search.value.trim().toLowerCase();
    const found = this._jobs.filter((job) => !wanted || [job.id, job.model, ...Object.entries(job.metadata).flat()].some((each) => each.toLowerCase().includes(wanted)));
    this._told.textContent = this._jobs.length ? `${plural(found.length, "job")}${wanted ? ` of ${number(this._jobs.length)} loaded` : ""}${this._cursor ? ", more to load" : ""}` : "";
    const further = this._cursor && h("div.row.center", {}, h("button.button", { type: "button", onclick: () => this.look(true) }, "Load more"));
    if (!this._jobs.length) {
      fill(this._body, empty(this._status ? "No job of this status" : "No jobs yet", "Jobs appear here, whoever of your tenant submits them.", h("a.button", { href: "#/extract" }, "Extract something")), further);
      return;
    }
    fill(this._body,
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Jobs" }, h("table.jobs", {},
        h("thead", {}, h("tr", {}, ["Job", "Status", "Documents", "Created", "Took", "Actions"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, found.map((job) => this._row(job))))),
      !found.length && empty("No job fits", "The search looks at what is loaded. Load more, or press Enter to open a full job id."),
      further);
  }

  _row(job) {
    const { counts } = job;
    const about = Object.entries(job.metadata).slice(0, 2).map(([name, value]) => (name === "name" ? value : `${name}: ${value}`)).join(" · ");
    return h("tr", {},
      h("td", {}, h("a.mono", { href: to("jobs", job.id) }, job.id), about && h("div.quiet.clip", {}, h("bdi", {}, about))),
      h("td", {}, pill(job.status)),
      h("td.wide", {}, bar(counts, `Progress of ${job.id}`), h("div.quiet.tiny", {}, plural(counts.total, "document"), counts.failed ? `, ${number(counts.failed)} failed` : "")),
      h("td", { title: when(job.created_at) }, ago(job.created_at)),
      h("td", {}, isTerminal(job) ? duration(between(job.created_at, job.finished_at)) : job.eta_s !== null ? `${duration(job.eta_s)} left` : "–"),
      h("td", {}, h("div.row", {}, jobButtons(this._ctx, job, () => this._anew()))));
  }
}
