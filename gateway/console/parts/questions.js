/** The fields of relations and classifications, each a list of questions that grows and shrinks. */

import { fill, h } from "../dom.js";
import { questionsRefusal, taskRefusal } from "../tasks.js";
import { chips } from "./chips.js";

const HELP = {
  relations: ["Between two entities, with or without a description: ", h("code", {}, "works for: is employed by")],
  classifications: ["About the whole text: ", h("code", {}, "topic"), " with the classes ", h("code", {}, "sports"), " and ", h("code", {}, "politics")],
};

/**
 * @param {{labels: Map<string, string|null>, onchange: () => void}} options labels: heads and tails are chosen from these
 */
export function questions({ labels, onchange }) {
  /** @type {import("../tasks.js").Questions} */
  const state = { relations: [], classifications: [] };
  /** Why the chosen model cannot do a task. @type {Record<string, string>} */
  let refusals = { relations: "", classifications: "" };
  const relations = group("Relations", "relations", "Add a relation", () => ({ typed: "", head: new Set(), tail: new Set() }), relationRow);
  const classifications = group("Classifications", "classifications", "Add a classification",
    () => ({ typed: "", classes: new Map(), several: false }), classificationRow);
  const element = h("details.disclosure", {}, h("summary", {}, "Relations and classifications"),
    h("div.stack", {}, relations.element, classifications.element));

  function group(legend, task, addText, create, row) {
    const list = h("ul.questions", {});
    const reason = h("p.quiet.tiny", {});
    const add = h("button.button.small", { type: "button", onclick: () => { state[task].push(create()); redraw(); list.lastElementChild.querySelector("input").focus(); } }, addText);
    const redraw = () => {
      fill(list, state[task].map((question, index) => h("li.question", {}, row(question, `${legend.slice(0, -1)} ${index + 1}`, () => {
        state[task].splice(index, 1);
        redraw();
        add.focus();
      }))));
      settle();
      onchange();
    };
    const settle = () => {
      add.hidden = Boolean(refusals[task]);
      fill(reason, refusals[task] || HELP[task].map((part) => (part instanceof Node ? part.cloneNode(true) : part)));
    };
    settle();
    return { element: h("fieldset.stack", {}, h("legend", {}, legend), reason, list, add), settle };
  }

  function name(question, label, placeholder, remove) {
    return h("div.row.name", {},
      h("input", {
        type: "text", value: question.typed, "aria-label": label, placeholder, maxlength: 2000, autocomplete: "off", dir: "auto",
        oninput: (event) => { question.typed = event.target.value; onchange(); },
      }),
      h("button.button.small", { type: "button", "aria-label": `Remove ${label.toLowerCase()}`, onclick: remove }, "Remove"));
  }

  function relationRow(question, label, remove) {
    return [
      name(question, label, "works for", remove),
      h("div.ends", {}, end("Head", question.head, label), end("Tail", question.tail, label)),
    ];
  }

  /** One end of a relation: any label, or some of those that are named above. */
  function end(which, chosen, label) {
    const summary = h("summary", {});
    const boxes = h("div.labels", {});
    const describe = () => fill(summary, `${which}: `, chosen.size ? h("bdi", {}, [...chosen].join(", ")) : "any label");
    const box = (each) => h("label.check", { data: { label: each } }, h("input", {
      type: "checkbox", checked: chosen.has(each), "aria-label": `${label}: ${which.toLowerCase()} may be ${each}`,
      onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](each); describe(); },
    }), h("bdi", {}, each));
    /** Follow the labels; what stays is not drawn again, since it may be what the user is just clicking. */
    const element = Object.assign(h("details.end", {}, summary, boxes), { follow() {
      for (const each of chosen) if (!labels.has(each)) chosen.delete(each);
      const drawn = new Map([...boxes.querySelectorAll("[data-label]")].map((each) => [each.dataset.label, each]));
      for (const [each, shown] of drawn) if (!labels.has(each)) shown.remove();
      boxes.append(...[...labels.keys()].filter((each) => !drawn.has(each)).map(box));
      describe();
    } });
    element.follow();
    return element;
  }

  function classificationRow(question, label, remove) {
    const box = chips({
      labels: question.classes, onchange, noun: "class", chosen: `Classes of ${label.toLowerCase()}`, field: { "aria-label": `${label}: classes` },
    });
    return [
      name(question, label, "topic", remove), box,
      h("label.check", {}, h("input", { type: "checkbox", checked: question.several, onchange: (event) => { question.several = event.target.checked; } }),
        h("span", {}, "Several may be right")),
    ];
  }

  return {
    element,
    state,
    /** Offer the present labels as heads and tails. */
    labelsChanged() {
      for (const each of element.querySelectorAll("details.end")) each.follow();
    },
    /** Offer what the model can do. @param {import("../tasks.js").Model[]} models @param {import("../tasks.js").Model|undefined} model */
    offer(models, model) {
      refusals = { relations: taskRefusal(models, model, "relations"), classifications: taskRefusal(models, model, "classifications") };
      for (const each of [relations, classifications]) each.settle();
    },
    /** Why the questions cannot be submitted, or "". */
    refusal() {
      const task = Object.keys(refusals).find((each) => state[each].length && refusals[each]);
      return task ? `${refusals[task]} Remove the ${task}, or choose another model.` : questionsRefusal(state, labels.size);
    },
  };
}
