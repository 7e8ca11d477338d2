/** What went wrong, in words. */

import { ApiError } from "./api.js";
import { h } from "./dom.js";

const ADVICE = {
  unauthenticated: "Sign in with a good key.",
  forbidden: "Ask for a key of a higher role.",
  rate_limited: "Wait a little, then try again.",
  quota_exceeded: "What your key or tenant may ask for is used up for now.",
  overloaded: "The service has more work than it takes; try again later.",
  storage_unavailable: "The service cannot reach its store; nothing was changed.",
  job_purged: "Its texts and results were removed.",
  texts_dropped: "Its texts are not kept any more: submit them again.",
  payload_too_large: "Send less at once, or use `gleaner extract` for large files.",
  too_many_documents: "Send less at once, or use `gleaner extract` for large files.",
};

/** @param {unknown} error @returns {string} one line */
export function inWords(error) {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  return error.code === "no_answer" ? error.message : `${error.title}: ${error.message}`;
}

/** @param {unknown} error @param {(() => void)|null} [again] @returns {Element} */
export function problemBox(error, again = null) {
  const api = error instanceof ApiError ? error : null;
  const wait = api?.retryAfter ? ` It may work in ${api.retryAfter} s.` : "";
  return h("div.problem", { role: "alert" },
    h("strong", {}, api ? api.title : "Something went wrong in this page"),
    h("p", {}, api ? api.message : inWords(error), api && ADVICE[api.code] ? ` ${ADVICE[api.code]}` : "", wait),
    api && api.places.length > 0 && h("ul", {}, api.places.slice(0, 8).map((each) =>
      h("li", {}, h("code", {}, place(each.pointer)), " ", each.detail))),
    api?.requestId && h("p.quiet", {}, "request ", h("code", {}, api.requestId), api.code !== "no_answer" && [" · ", h("code", {}, api.code)]),
    again && h("button.button.small", { type: "button", onclick: again }, "Try again"));
}

/** A pointer of a submission in the page's own words. @param {string} pointer "line:7/text" */
export function place(pointer) {
  const match = /^line:(\d+)(.*)$/.exec(pointer);
  if (!match) return pointer;
  return Number(match[1]) === 1 ? match[2].replace(/^\//, "") : `document ${Number(match[1]) - 1}${match[2]}`;
}
