/** Endpoints that hear of jobs, and what became of each telling. */

import { confirmed, copyButton, empty, fill, h, toast } from "../dom.js";
import { ago, plural, when, words } from "../format.js";
import { inWords, problemBox } from "../problems.js";
import { to } from "../router.js";

const EVENTS = ["job.succeeded", "job.partially_succeeded", "job.failed", "job.cancelled", "job.expired"];
const RECOVER_MS = 7 * 86_400_000;

/** @param {any} ctx @param {Element} root @param {any} _route @param {AbortSignal} signal */
export function show(ctx, root, _route, signal) {
  const page = new Webhooks(ctx, signal);
  fill(root, page.element);
  page.load();
  return "Webhooks";
}

class Webhooks {
  constructor(ctx, signal) {
    this._ctx = ctx;
    this._signal = signal;
    this._list = h("div.stack");
    this._secret = h("div", { "aria-live": "polite" });
    this.element = h("div.page", {},
      h("div.row.between.heading", {}, h("h1", {}, "Webhooks")),
      h("p.quiet", {}, "An endpoint hears of every job that ends. What it gets is signed with its secret; how to verify that is in the guide to webhooks."),
      this._secret, ctx.may("submitter") && this._form(), this._list);
  }

  async load() {
    try {
      const { data } = await this._ctx.api.get("v1/webhook-endpoints", {}, this._signal);
      fill(this._list, data.length ? data.map((each) => this._endpoint(each)) : empty("No endpoint yet",
        "Register the https address of your own service above, and it is told when a job ends."));
    } catch (error) {
      if (!this._signal.aborted) fill(this._list, problemBox(error, () => this.load()));
    }
  }

  _form() {
    const url = h("input", { id: "hook-url", type: "url", required: true, placeholder: "https://example.com/hooks/gleaner", autocomplete: "off" });
    const description = h("input", { id: "hook-description", type: "text", maxlength: 256, autocomplete: "off" });
    const events = EVENTS.map((name) => h("input", { type: "checkbox", value: name, checked: true, id: `event-${name}` }));
    const all = h("input", { type: "checkbox", id: "hook-all", checked: true });
    const fault = h("div");
    const submit = async (event) => {
      event.preventDefault();
      const chosen = events.filter((each) => each.checked).map((each) => each.value);
      try {
        const made = await this._ctx.api.call("POST", "v1/webhook-endpoints", { json: {
          url: url.value.trim(), description: description.value.trim(), all_jobs: all.checked,
          events: chosen.length === EVENTS.length ? null : chosen,
        } });
        fill(fault);
        form.reset();
        details.open = false;
        this._showSecret(made.url, made.secret, "");
        this.load();
      } catch (error) {
        fill(fault, problemBox(error));
      }
    };
    const form = h("form.stack", { onsubmit: submit, "aria-label": "New endpoint" },
      h("div.fields", {}, h("div.field", {}, h("label", { for: "hook-url" }, "URL"), url), h("div.field", {}, h("label", { for: "hook-description" }, "Description"), description)),
      h("fieldset", {}, h("legend", {}, "Events"), h("div.row", {}, events.map((each) => h("label.check", { for: each.id }, each, h("span", {}, each.value))))),
      h("label.check", { for: "hook-all" }, all, h("span", {}, "Hear of every job, not only of those that name this endpoint")),
      fault, h("div.row", {}, h("button.button.primary", { type: "submit" }, "Register endpoint")));
    const details = h("details.panel", {}, h("summary", {}, "New endpoint"), form);
    return details;
  }

  _showSecret(url, secret, note) {
    fill(this._secret, h("div.panel.secret", {}, h("h2", {}, "The secret, shown once"),
      h("p", {}, "Keep it where ", h("bdi.mono", {}, url), " verifies signatures. It cannot be shown again.", note && ` ${note}`),
      h("div.row", {}, h("code.mono.wrap", { id: "secret" }, secret), copyButton(secret),
        h("button.button.small", { type: "button", onclick: () => fill(this._secret) }, "I have it"))));
    this._secret.scrollIntoView({ block: "nearest" });
  }

  _endpoint(endpoint) {
    const path = `v1/webhook-endpoints/${encodeURIComponent(endpoint.id)}`;
    const said = h("div", { "aria-live": "polite" });
    const call = async (method, rest, more, then) => {
      try {
        await then(await this._ctx.api.call(method, `${path}${rest}`, more));
      } catch (error) {
        fill(said, problemBox(error));
      }
    };
    const button = (text, work, kind = "small") => h(`button.button.${kind}`, { type: "button", "aria-label": `${text}: ${endpoint.url}`, onclick: work }, text);
    const active = endpoint.status === "active";
    const buttons = !this._ctx.may("submitter") ? [] : [
      button("Send a test", () => call("POST", "/test", {}, (test) => fill(said, h(`p.${test.delivered ? "note" : "fault"}`, {},
        test.delivered ? `Delivered: HTTP ${test.status} in ${test.latency_ms} ms.` : `Not delivered: ${test.status ? `HTTP ${test.status}` : words(test.error ?? "no answer")}, ${test.latency_ms} ms.`)))),
      button("Rotate secret", async () => {
        if (!await confirmed({ title: "Make a new secret?", text: "The old one signs along for 24 hours, so that the receiver can change in peace.", action: "Rotate", danger: false })) return;
        await call("POST", "/rotate-secret", {}, (made) => this._showSecret(endpoint.url, made.secret, `The old one signs until ${when(made.previous_signs_until)}.`));
      }),
      button(active ? "Disable" : "Enable", () => call("PATCH", "", { json: { status: active ? "disabled" : "active" } }, () => this.load())),
      button("Send failed again", () => call("POST", "/recover", { json: { since: new Date(Date.now() - RECOVER_MS).toISOString() } },
        (found) => { toast(`${plural(found.recovered, "delivery", "deliveries")} go again.`); if (log.open) deliveries.load(); })),
      button("Remove", async () => {
        if (!await confirmed({ title: "Remove this endpoint?", text: "What is still to be delivered to it is forgotten.", action: "Remove" })) return;
        await call("DELETE", "", {}, () => this.load());
      }),
    ];
    const deliveries = this._deliveries(endpoint);
    const log = h("details.disclosure", { ontoggle: () => log.open && deliveries.load() }, h("summary", {}, "Deliveries"), deliveries.element);
    return h("section.panel", { "aria-label": endpoint.url },
      h("div.row.between", {}, h("h2.mono.wrap", {}, h("bdi", {}, endpoint.url)), h(`span.pill.is-${active ? "succeeded" : "cancelled"}`, {}, active ? "active" : `disabled: ${words(endpoint.disabled_reason ?? "")}`)),
      endpoint.description && h("p", {}, h("bdi", {}, endpoint.description)),
      h("p.quiet.tiny", {}, [
        endpoint.events ? endpoint.events.join(", ") : "all events", endpoint.all_jobs ? "every job" : "jobs that name it",
        endpoint.last_success_at && `last success ${ago(endpoint.last_success_at)}`,
        endpoint.failures_in_a_row > 0 && `${plural(endpoint.failures_in_a_row, "failure")} in a row`, endpoint.id,
      ].filter(Boolean).join(" · ")),
      h("div.row", {}, buttons), said, log);
  }

  _deliveries(endpoint) {
    const body = h("div");
    let status = "", cursor = null, rows = [];
    const select = h("select", { "aria-label": `Status of deliveries to ${endpoint.url}`, onchange: () => { status = select.value; load(); } },
      Object.entries({ "": "all", pending: "pending", delivered: "delivered", failed: "failed" }).map(([value, text]) => h("option", { value }, text)));
    const load = async (more = false) => {
      try {
        const page = await this._ctx.api.get(`v1/webhook-endpoints/${endpoint.id}/deliveries`, { status, limit: 20, cursor: more ? cursor : null }, this._signal);
        rows = more ? [...rows, ...page.data] : page.data;
        cursor = page.next_cursor;
        draw();
      } catch (error) {
        if (!this._signal.aborted) fill(body, problemBox(error, () => load()));
      }
    };
    const again = async (delivery) => {
      try {
        const now = await this._ctx.api.call("POST", `v1/deliveries/${encodeURIComponent(delivery.id)}/redeliver`);
        rows = rows.map((each) => (each.id === now.id ? now : each));
        toast("It is sent again.");
        draw();
        setTimeout(() => this._signal.aborted || load(), 1500);
      } catch (error) {
        toast(inWords(error), "bad");
      }
    };
    const draw = () => fill(body,
      !rows.length ? h("p.quiet", {}, "Nothing was sent, or is to be.") : h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Deliveries" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Event", "Job", "Status", "Created", "Attempts", ""].map((name) => h("th", { scope: "col" }, name || h("span.sr", {}, "Actions"))))),
        h("tbody", {}, rows.map((each) => h("tr", {},
          h("td", {}, each.event), h("td", {}, h("a.mono.clip", { href: to("jobs", each.job_id), title: each.job_id }, each.job_id)),
          h("td", {}, h(`span.pill.is-${{ delivered: "succeeded", failed: "failed" }[each.status] ?? "running"}`, {}, each.status)),
          h("td", { title: when(each.created_at) }, ago(each.created_at)),
          h("td", {}, attempts(each)),
          h("td", {}, this._ctx.may("submitter") && h("button.button.small", { type: "button", "aria-label": `Send ${each.id} again`, onclick: () => again(each) }, "Send again"))))))),
      cursor && h("button.button.small", { type: "button", onclick: () => load(true) }, "Load more"));
    const element = h("div.stack", {}, h("div.row", {}, h("label.inline", {}, "Show ", select),
      h("button.button.small", { type: "button", onclick: () => load() }, "Refresh")), body);
    return { element, load };
  }
}

function attempts(delivery) {
  if (!delivery.attempts.length) return "none yet";
  return h("details", {}, h("summary", {}, plural(delivery.attempts.length, "attempt")),
    h("ol.attempts", {}, delivery.attempts.map((each) => h("li", {},
      h("time", { datetime: each.at }, when(each.at)), ` ${each.status ? `HTTP ${each.status}` : words(each.error ?? "no answer")}, ${each.latency_ms} ms`,
      each.body && h("pre", {}, each.body)))),
    delivery.next_attempt_at && h("p.quiet.tiny", {}, `next ${ago(delivery.next_attempt_at)}`));
}
