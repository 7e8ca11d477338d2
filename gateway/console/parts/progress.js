/** A job's progress: a bar of its outcomes, a line in words, and now and then a word to screen readers. */

import { fill, h } from "../dom.js";
import { duration, number, plural, words } from "../format.js";

const TERMINAL = new Set(["succeeded", "partially_succeeded", "failed", "cancelled", "expired"]);

/** @param {{status: string}} job */
export const isTerminal = (job) => TERMINAL.has(job.status);

/** @param {string} status */
export const pill = (status) => h(`span.pill.is-${status}`, {}, words(status));

/** @param {Record<string, number>} counts @param {string} [name] */
export function bar(counts, name = "Progress") {
  const done = counts.total - counts.queued - counts.running;
  const percent = Math.floor((100 * done) / Math.max(1, counts.total));
  return h("div.bar", { role: "progressbar", aria: { label: name, valuemin: 0, valuemax: 100, valuenow: percent } },
    ["succeeded", "failed", "cancelled", "expired", "running"].map((state) => counts[state] > 0 && h(`span.part.is-${state}`, {
      vars: { "--share": `${(100 * counts[state]) / counts.total}%` },
    })));
}

/** @param {any} job */
export function inShort(job) {
  const { counts } = job;
  const done = counts.total - counts.queued - counts.running;
  const parts = [`${number(done)} of ${plural(counts.total, "document")}`];
  if (counts.failed) parts.push(`${number(counts.failed)} failed`);
  if (job.queue_position) parts.push(`place ${number(job.queue_position)} in the queue`);
  if (!isTerminal(job) && job.eta_s !== null) parts.push(`about ${duration(job.eta_s)} left`);
  return parts.join(" · ");
}

/** @returns {Element & {show: (job: any) => void}} */
export function progress() {
  const seen = h("div.progress");
  const told = h("p.sr", { role: "status", "aria-live": "polite" });
  let last = -1;
  const box = h("div", {}, seen, told);
  /** @param {any} job */
  function show(job) {
    fill(seen, h("div.row.between", {}, pill(job.status), h("span.quiet", {}, inShort(job))), bar(job.counts),
      job.status_reason && !isTerminal(job) && h("p.note", {}, job.status_reason));
    const tenth = isTerminal(job) ? 11 : Math.floor(job.progress * 10);
    if (tenth !== last) told.textContent = `Job ${words(job.status)}: ${inShort(job)}`;
    last = tenth;
  }
  return Object.assign(box, { show });
}
