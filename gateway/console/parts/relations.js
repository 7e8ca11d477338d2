/** The relations of a document: a table whose rows mark head and tail in the text, and draw an arrow between them. */

import { arc } from "../arrows.js";
import { h } from "../dom.js";
import { number } from "../format.js";

const FIRST = 20;
const ENDS = ["head", "tail"];

/**
 * @param {{entities: import("../highlight.js").Entity[], relations: import("../filter.js").Relation[]}} result as it is shown
 * @param {(Element & {reveal: (index: number) => void})|null} text as `markedText` draws it; null where the page has none
 * @returns {Element}
 */
export function relationTable({ entities, relations }, text) {
  const arrow = text && new Arrow(text);
  const row = (relation) => {
    const [head, tail] = ENDS.map((end) => h("td", {}, h("bdi", {}, entities[relation[end]].text)));
    const label = h("bdi", {}, relation.label);
    const button = arrow && h("button.relation", {
      type: "button", "aria-pressed": "false", title: "Mark head and tail in the text",
      onclick: () => arrow.pin(button, relation), onfocus: () => arrow.draw(relation), onblur: () => arrow.settle(),
    }, label);
    return h("tr", { onmouseenter: () => arrow?.draw(relation), onmouseleave: () => arrow?.settle() },
      head, relationCell(button || label), tail,
      h("td.num", {}, relation.score.toFixed(3)));
  };
  return h("div.relations", {},
    h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Relations" }, h("table", {}, relationHead(), h("tbody", {}, relations.slice(0, FIRST).map(row)))),
    relations.length > FIRST && h("p.quiet.tiny", {}, `${number(relations.length - FIRST)} more are in the view Relations.`));
}

/** @param {...string} before names of columns before the relation's */
export const relationHead = (...before) => h("thead", {}, h("tr", {}, [...before, "Head", "Relation", "Tail"].map((name) => h("th", { scope: "col" }, name)), h("th.num", { scope: "col" }, "Score")));

/** The relation between its head and its tail. @param {Element} label */
export function relationCell(label) {
  const arrow = (text) => h("span", { aria: { hidden: true } }, text);
  return h("td", {}, arrow("→ "), label, arrow(" →"));
}

/** Marks the ends of one relation in a text at a time: the one that is pointed at, or else the pinned one. */
class Arrow {
  /** @param {Element & {reveal: (index: number) => void}} text */
  constructor(text) {
    this._text = text;
    /** @type {{button: Element, relation: any}|null} */
    this._pinned = null;
    this._line = h("path", { class: "shaft" });
    this._point = h("path", { class: "point" });
    this._svg = h("svg", { class: "arrows", "aria-hidden": "true" }, this._line, this._point);
    text.addEventListener("drawn", () => this.settle());
    new ResizeObserver(() => this.settle()).observe(text);
  }

  /** Keep a relation marked, and bring it into view; or no longer. @param {Element} button @param {any} relation */
  pin(button, relation) {
    const again = this._pinned?.button === button;
    this._pinned?.button.setAttribute("aria-pressed", "false");
    this._pinned = again ? null : { button, relation };
    if (again) return this.clear();
    button.setAttribute("aria-pressed", "true");
    for (const end of ENDS) this._text.reveal(relation[end]);
    this.draw(relation);
    this._marks(relation.head)[0]?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  settle() {
    if (this._pinned) this.draw(this._pinned.relation);
    else this.clear();
  }

  clear() {
    for (const end of ENDS) {
      for (const mark of this._text.querySelectorAll(`.is-${end}`)) {
        mark.classList.remove(`is-${end}`);
        delete mark.dataset.end;
      }
    }
    this._svg.remove();
  }

  /** @param {any} relation */
  draw(relation) {
    this.clear();
    const [from, to] = ENDS.map((end) => {
      const marks = this._marks(relation[end]);
      for (const mark of marks) mark.classList.add(`is-${end}`);
      if (marks.length) marks[0].dataset.end = [marks[0].dataset.end, end].filter(Boolean).join(" ");
      return marks[0];
    });
    const box = this._text.getBoundingClientRect();
    if (!from || !to || from === to || !box.width) return; // without a width it has left the page
    const [start, end] = [from, to].map((mark) => {
      const first = mark.getClientRects()[0];
      return { x: first.left + first.width / 2 - box.left, y: first.top - box.top };
    });
    const { shaft, point } = arc(start, end);
    this._line.setAttribute("d", shaft);
    this._point.setAttribute("d", point);
    this._text.append(this._svg);
  }

  /** @param {number} entity @returns {HTMLElement[]} */
  _marks(entity) {
    return [...this._text.querySelectorAll(`mark[data-entities~="${entity}"]`)];
  }
}
