/** The backlog of every model, over all tenants, sampled while the page is open. For admins. */

import { every } from "../api.js";
import { lineChart } from "../charts.js";
import { empty, fill, h, keepingFocus } from "../dom.js";
import { compact, duration, number } from "../format.js";
import { problemBox } from "../problems.js";

const EVERY_MS = 2000, SAMPLES = 150;

/** @param {any} ctx @param {Element} root @param {any} _route @param {AbortSignal} signal */
export function show(ctx, root, _route, signal) {
  if (!ctx.may("admin")) {
    fill(root, empty("For admins", "The queue shows the work of all tenants; it needs a key of the role admin."));
    return "Queue";
  }
  const page = new Queue(ctx, signal);
  fill(root, page.element);
  every(EVERY_MS, () => page.look(), signal);
  return "Queue";
}

class Queue {
  constructor(ctx, signal) {
    this._ctx = ctx;
    this._signal = signal;
    this._samples = ctx.queueSamples;
    this._fault = h("div");
    this._body = h("div.stack");
    this._told = h("span.quiet", {});
    this.element = h("div.page", {}, h("div.row.between.heading", {}, h("h1", {}, "Queue"), this._told), this._fault, this._body);
  }

  async look() {
    try {
      const { data } = await this._ctx.api.get("v1/queue", {}, this._signal);
      for (const each of data) {
        const held = this._samples.get(each.model) ?? [];
        this._samples.set(each.model, [...held, { at: Date.now(), ...each }].slice(-SAMPLES));
      }
      fill(this._fault);
      this._told.textContent = `looked at ${new Date().toLocaleTimeString("en-GB")}, every ${EVERY_MS / 1000} s while this page is seen`;
      keepingFocus(this._body, () => fill(this._body, data.map((each) => this._model(each))));
    } catch (error) {
      if (!this._signal.aborted) fill(this._fault, problemBox(error));
    }
  }

  _model(now) {
    const held = this._samples.get(now.model) ?? [];
    const span = `last ${duration((held.at(-1).at - held[0].at) / 1000)}`;
    const tile = (name, value, note = "") => h("div.tile", {}, h("span.quiet", {}, name), h("strong", {}, value), note && h("span.quiet.tiny", {}, note));
    return h("section.panel", { "aria-label": now.model },
      h("div.row.between", {}, h("h2", {}, now.model), now.workers === 0 && h("span.pill.is-failed", {}, "no worker")),
      now.reason && h("p.fault", {}, now.reason),
      h("div.tiles", {},
        tile("Workers", number(now.workers), `${number(now.slots)} slots each`),
        tile("Open jobs", number(now.open_jobs), `${number(now.open_shards)} shards`),
        tile("Backlog", compact(now.open_characters), "characters"),
        tile("Speed", compact(now.characters_per_s), "characters/s, lately"),
        tile("All done in", now.open_characters ? duration(now.eta_s) : "now"),
        tile("Oldest job", duration(now.oldest_open_s))),
      h("div.charts", {},
        lineChart({ title: "Backlog, characters", values: held.map((each) => each.open_characters), format: compact, span }),
        lineChart({ title: "Open jobs", values: held.map((each) => each.open_jobs), format: compact, span }),
        lineChart({ title: "Characters a second", values: held.map((each) => each.characters_per_s), format: compact, span }),
        lineChart({ title: "Workers", values: held.map((each) => each.workers), format: compact, span })),
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": `Queues of ${now.model}` }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Priority"), ["Open jobs", "Not begun", "Shards in the queue"].map((name) => h("th.num", { scope: "col" }, name)))),
        h("tbody", {}, now.queues.map((each) => h("tr", {}, h("td", {}, each.priority), h("td.num", {}, number(each.open_jobs)),
          h("td.num", {}, number(each.queued_jobs)), h("td.num", {}, number(each.published_shards))))))));
  }
}
