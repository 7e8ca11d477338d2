/** The classes of a document as bars with their scores. */

import { h } from "../dom.js";
import { plural, score } from "../format.js";

const FIRST = 5;

/** @param {Record<string, {label: string, score: number}[]>} classifications classes by falling score */
export function classBars(classifications) {
  return h("div.classes", {}, Object.entries(classifications).map(([name, classes]) => h("div.classification", {},
    h("h4", {}, h("bdi", {}, name)),
    classes.length ? bars(classes.slice(0, FIRST)) : h("p.quiet.tiny", {}, "No class reached its threshold."),
    classes.length > FIRST && h("details.disclosure", {}, h("summary", {}, plural(classes.length - FIRST, "more class", "more classes")), bars(classes.slice(FIRST))))));
}

function bars(classes) {
  return h("ul.bars", {}, classes.map((each) => h("li", {},
    h("bdi.wrap", {}, each.label),
    h("span.bar", { aria: { hidden: true } }, h("span.part.is-succeeded", { vars: { "--share": `${100 * each.score}%` } })),
    h("span.count", {}, score(each.score)))));
}
