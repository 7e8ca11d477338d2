/** What can be done to a job: buttons for a list and for its page. */

import { newKey } from "../api.js";
import { confirmed, h, toast } from "../dom.js";
import { plural } from "../format.js";
import { inWords } from "../problems.js";
import { to } from "../router.js";
import { isTerminal } from "./progress.js";

/**
 * @param {any} ctx @param {any} job @param {(what: "changed"|"purged") => void} done
 * @returns {Element[]}
 */
export function jobButtons(ctx, job, done) {
  if (!ctx.may("submitter")) return [];
  const path = `v1/jobs/${encodeURIComponent(job.id)}`;
  const act = async (button, work) => {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      toast(inWords(error), "bad");
    } finally {
      button.disabled = false;
    }
  };
  const button = (text, work, kind = "small") => h(`button.button.${kind}`, {
    type: "button", "aria-label": `${text} job ${job.id}`, onclick: (event) => act(event.currentTarget, work),
  }, text);
  if (!isTerminal(job)) {
    return job.status === "cancelling" ? [] : [button("Cancel", async () => {
      const sure = await confirmed({ title: "Cancel this job?", text: "What is finished keeps its results; what has not begun will not be read.", action: "Cancel the job" });
      if (!sure) return;
      await ctx.api.call("POST", `${path}/cancel`);
      toast("The job is being cancelled.");
      done("changed");
    })];
  }
  const left = job.counts.total - job.counts.succeeded;
  return [
    left > 0 && !job.retried_by && button("Retry", async () => {
      const made = await ctx.api.call("POST", `${path}/retry`, { headers: { "Idempotency-Key": newKey() } });
      toast(`${plural(left, "document")} go again in a new job.`);
      location.hash = to("jobs", made.id);
    }),
    button("Purge", async () => {
      const sure = await confirmed({ title: "Purge this job?", text: "Its texts and results are removed at once and cannot be brought back.", action: "Purge" });
      if (!sure) return;
      await ctx.api.call("DELETE", path);
      ctx.runs.delete(job.id);
      toast("Texts and results are gone.");
      done("purged");
    }),
  ].filter(Boolean);
}
