/** Jobs of the tenant: newest first, by status, searched among those that are loaded. */

import { empty, fill, h, keepingFocus } from "../dom.js";
import { ago, between, duration, number, plural, when } from "../format.js";
import { jobButtons } from "../parts/jobs.js";
import { bar, isTerminal, pill } from "../parts/progress.js";
import { problemBox } from "../problems.js";
import { to } from "../router.js";

const REFRESH_MS = 3000, A_PAGE = 50;
const STATES = {
  "": "All", "queued,running,cancelling": "Open", succeeded: "Succeeded", "partially_succeeded,failed": "With failures",
  "cancelled,expired": "Cancelled or expired",
};

/** @param {any} ctx @param {Element} root @param {any} route */
export function show(ctx, root, route) {
  const page = new Jobs(ctx, route.query.get("status") ?? "");
  fill(root, page.element);
  page.load();
  return { title: "Jobs", leave: () => page.leave() };
}

class Jobs {
  constructor(ctx, status) {
    this._ctx = ctx;
    this._status = status in STATES ? status : "";
    /** @type {any[]} */
    this._jobs = [];
    this._cursor = null;
    this._stop = new AbortController();
    this._search = h("input", {
      type: "search", id: "job-search", placeholder: "Id or metadata", autocomplete: "off", oninput: () => this._draw(),
      onkeydown: (event) => { if (event.key === "Enter" && /^job_\w+$/.test(this._search.value.trim())) location.hash = to("jobs", this._search.value.trim()); },
    });
    this._body = h("div", {});
    this._fault = h("div", {});
    this._told = h("p.quiet", { role: "status" });
    const select = h("select", { id: "job-status", onchange: () => { this._status = select.value; this._jobs = []; this.load(); } },
      Object.entries(STATES).map(([value, text]) => h("option", { value, selected: value === this._status }, text)));
    this.element = h("div.page", {},
      h("div.row.between.heading", {}, h("h1", {}, "Jobs"), h("div.row", {},
        h("label.inline", { for: "job-status" }, "Status ", select), h("label.inline", { for: "job-search" }, "Search ", this._search))),
      this._fault, this._told, this._body);
    this._timer = setInterval(() => this._refresh(), REFRESH_MS);
  }

  leave() {
    clearInterval(this._timer);
    this._stop.abort();
  }

  _page(cursor) {
    const query = { limit: A_PAGE, cursor, status: this._status ? this._status.split(",") : null };
    return this._ctx.api.get("v1/jobs", query, this._stop.signal);
  }

  async load(more = false) {
    try {
      const page = await this._page(more ? this._cursor : null);
      this._jobs = more ? [...this._jobs, ...page.data] : page.data;
      this._cursor = page.next_cursor;
      fill(this._fault);
      this._draw();
    } catch (error) {
      if (!this._stop.signal.aborted) fill(this._fault, problemBox(error, () => this.load(more)));
    }
  }

  /** The newest page again, unless nothing can have changed where nobody looks. */
  async _refresh() {
    if (document.hidden || document.querySelector("dialog[open]")) return;
    try {
      const page = await this._page(null);
      const fresh = new Map(page.data.map((job) => [job.id, job]));
      const older = this._jobs.slice(page.data.length).filter((job) => !fresh.has(job.id));
      this._jobs = this._jobs.length > A_PAGE ? [...page.data, ...older] : page.data;
      if (this._jobs.length <= A_PAGE) this._cursor = page.next_cursor;
      keepingFocus(this._body, () => this._draw());
    } catch { /* what is shown stays; the next look may work */ }
  }

  _draw() {
    const wanted = this._search.value.trim().toLowerCase();
    const found = this._jobs.filter((job) => !wanted || [job.id, job.model, ...Object.entries(job.metadata).flat()].some((each) => each.toLowerCase().includes(wanted)));
    this._told.textContent = this._jobs.length ? `${plural(found.length, "job")}${wanted ? ` of ${number(this._jobs.length)} loaded` : ""}${this._cursor ? ", more to load" : ""}` : "";
    if (!this._jobs.length) {
      fill(this._body, empty(this._status ? "No job of this status" : "No jobs yet", "Jobs appear here, whoever of your tenant submits them.", h("a.button", { href: "#/extract" }, "Extract something")));
      return;
    }
    fill(this._body,
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Jobs" }, h("table.jobs", {},
        h("thead", {}, h("tr", {}, ["Job", "Status", "Documents", "Created", "Took", "Actions"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, found.map((job) => this._row(job))))),
      !found.length && empty("No job fits", "The search looks at what is loaded. Load more, or press Enter to open a full job id."),
      this._cursor && h("div.row.center", {}, h("button.button", { type: "button", onclick: () => this.load(true) }, "Load more")));
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
      h("td", {}, h("div.row", {}, jobButtons(this._ctx, job, () => this.load()))));
  }
}
