/**
 * Results as tables of entities, of relations and of classes, one row for each.
 *
 * @typedef {{noun: string, title: string, csv: "entities"|"relations"|"classifications", rows: (results: any[]) => any[], key: (row: any) => any, table: (rows: any[], hueOf: (label: string) => number) => Element}} View
 *   csv: its table among the downloads; rows: of results as they are shown; key: names a row
 */

import { h } from "../dom.js";
import { score } from "../format.js";
import { relationCell, relationHead } from "./relations.js";

const id = (row) => h("td", {}, h("bdi", {}, row.result.id));
const words = (text) => h("td", {}, h("bdi", {}, text));
const number = (value) => h("td.num", {}, value);
const frame = (name, head, rows) => h("div.scroll", { tabindex: 0, role: "region", "aria-label": name }, h("table", {}, head, h("tbody", {}, rows)));
const columns = (texts, numbers) => h("thead", {}, h("tr", {}, texts.map((name) => h("th", { scope: "col" }, name)), numbers.map((name) => h("th.num", { scope: "col" }, name))));

/** @type {Record<"table"|"relations"|"classes", View>} */
export const VIEWS = {
  table: {
    noun: "row",
    title: "Table",
    csv: "entities",
    rows: (results) => results.flatMap((result) => result.entities.map((entity) => ({ result, entity }))),
    key: ({ result, entity }) => [result.index, entity.start, entity.end, entity.label],
    table: entityTable,
  },
  relations: {
    noun: "relation",
    title: "Relations",
    csv: "relations",
    rows: (results) => results.flatMap((result) => (result.relations ?? []).map((relation) => ({ result, relation }))),
    key: ({ result, relation }) => [result.index, relation.head, relation.label, relation.tail],
    table: (rows) => frame("Relations", relationHead("Document"), rows.map(({ result, relation }) => h("tr", {},
      id({ result }), words(result.entities[relation.head].text), relationCell(h("bdi", {}, relation.label)),
      words(result.entities[relation.tail].text), number(relation.score.toFixed(3))))),
  },
  classes: {
    noun: "class",
    title: "Classes",
    csv: "classifications",
    rows: (results) => results.flatMap((result) => Object.entries(result.classifications ?? {})
      .flatMap(([name, classes]) => classes.map((each) => ({ result, name, each })))),
    key: ({ result, name, each }) => [result.index, name, each.label],
    table: (rows) => frame("Classes", columns(["Document", "Classification", "Class"], ["Score"]), rows.map(({ result, name, each }) => h("tr", {},
      id({ result }), words(name), words(each.label), number(each.score.toFixed(3))))),
  },
};

function entityTable(rows, hueOf) {
  const explained = rows.some(({ entity }) => entity.explain);
  const head = columns(["Document", "Text", "Label"], ["Score", "Start", "End"]);
  if (explained) head.firstElementChild.append(h("th.num", { scope: "col" }, "Right in"), h("th", { scope: "col" }, "Next best"));
  return frame("Entities", head, rows.map(({ result, entity }) => h("tr", {},
    id({ result }), words(entity.text),
    h("td", {}, h("span.named", {}, h("span.swatch", { data: { hue: String(hueOf(entity.label) % 8) }, aria: { hidden: true } }), h("bdi", {}, entity.label))),
    number(entity.score.toFixed(3)), number(entity.start), number(entity.end),
    explained && explanation(entity.explain))));
}

/** How often an entity of such a score is right, and which labels came next. @param {any} explain */
function explanation(explain) {
  const next = (explain?.runners_up ?? []).filter((each) => each.score >= 0.01);
  return [
    number(explain?.confidence === null || !explain ? "–" : `${Math.round(100 * explain.confidence)} %`),
    h("td", {}, next.length ? next.map((each) => `${each.label} ${score(each.score)}`).join(", ") : "–"),
  ];
}
