/** A field of labels or classes: chips, and an input that takes one or many at once. */

import { fill, h } from "../dom.js";
import { labels as parse } from "../inputs.js";

/**
 * @param {{labels: Map<string, string|null>, onchange: () => void, noun?: string, chosen?: string, field?: Record<string, string>}} options
 *   labels: name -> description; noun: label or class; chosen: the list's name; field: attributes of the input
 * @returns {Element & {redraw: () => void}}
 */
export function chips({ labels, onchange, noun = "label", chosen = "Chosen labels", field = {} }) {
  const list = h("ul.chips", { "aria-label": chosen });
  const input = h("input", { type: "text", autocomplete: "off", maxlength: 2000, placeholder: `Type a ${noun}, press Enter`, dir: "auto", ...field });
  /** @param {string} [typed] an input of one line drops line ends, so what is pasted comes here */
  const take = (typed = input.value) => {
    for (const { name, description } of parse(typed)) labels.set(name, description);
    input.value = "";
    redraw();
    onchange();
  };
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const comma = event.key === "," && !input.value.includes(": "); // a description may have commas
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey || comma) {
      event.preventDefault();
      take();
    } else if (event.key === "Backspace" && !input.value && labels.size) {
      labels.delete([...labels.keys()].at(-1));
      redraw();
      onchange();
    }
  });
  input.addEventListener("blur", () => input.value.trim() && take());
  input.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (!/[,;\n]/.test(text)) return;
    event.preventDefault();
    take(input.value + text);
  });
  function redraw() {
    fill(list, [...labels].map(([name, description], index) => h("li.chip", { data: { hue: String(index % 8) }, title: description },
      h("bdi", {}, name),
      description && h("span.quiet", { "aria-label": `described as ${description}` }, "…"),
      h("button", {
        type: "button", "aria-label": `Remove ${noun} ${name}`,
        onclick: () => { labels.delete(name); redraw(); onchange(); input.focus(); },
      }, "×"))));
  }
  redraw();
  const box = h("div.chipbox", { onclick: (event) => event.target === box && input.focus() }, list, input);
  return Object.assign(box, { redraw });
}
