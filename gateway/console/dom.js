/** Elements from data. Text only ever becomes a text node; nothing here parses HTML. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "circle"]);

/**
 * An element.
 * @param {string} tag name, with classes behind dots: "span.pill.ok"
 * @param {Record<string, any>} [props] `on…` are listeners, `data`, `vars` (CSS variables) and `aria` are groups,
 *   null and false leave an attribute out
 * @param {...(Node|string|number|null|undefined|false|any[])} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const svg = SVG_TAGS.has(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(props)) setProp(element, key, value, svg);
  append(element, children);
  return element;
}

function setProp(element, key, value, svg) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "data") Object.assign(element.dataset, value);
  else if (key === "vars") for (const [name, each] of Object.entries(value)) element.style.setProperty(name, each);
  else if (key === "aria") for (const [name, each] of Object.entries(value)) element.setAttribute(`aria-${name}`, String(each));
  else if (key === "class") element.classList.add(...String(value).split(" ").filter(Boolean));
  else if (!svg && (key === "value" || key === "checked" || key === "disabled")) element[key] = value;
  else element.setAttribute(key, value === true ? "" : String(value));
}

/** @param {Element} element @param {any[]} children */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Replace all that is in an element. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/**
 * Draw an element anew, and leave the focus where it was: on what has the same name.
 * @param {Element} element @param {() => void} draw
 */
export function keepingFocus(element, draw) {
  const active = document.activeElement;
  const name = element.contains(active) ? (active.getAttribute("aria-label") ?? active.getAttribute("href")) : null;
  draw();
  if (name === null) return;
  const same = [...element.querySelectorAll("[aria-label], [href]")].find((each) => (each.getAttribute("aria-label") ?? each.getAttribute("href")) === name);
  same?.focus({ preventScroll: true });
}

/** Say something for a moment, also to screen readers. @param {string} text @param {"ok"|"bad"} [kind] */
export function toast(text, kind = "ok") {
  const box = document.getElementById("toasts");
  const shown = h(`div.toast.${kind}`, {}, text);
  box?.append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 4500);
}

/**
 * Ask before something that cannot be undone.
 * @param {{title: string, text: string, action: string, danger?: boolean}} what
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, action, danger = true }) {
  return new Promise((resolve) => {
    const dialog = h("dialog.dialog", { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title" }, title),
        h("p", {}, text),
        h("div.row.end", {},
          h("button.button", { value: "no", autofocus: true }, "Keep"),
          h(`button.button.${danger ? "danger" : "primary"}`, { value: "yes" }, action))));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Hand a file to the user. @param {string} name @param {Blob} blob */
export function download(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A button that copies a text. @param {string} text @param {string} label */
export function copyButton(text, label = "Copy") {
  return h("button.button.small", {
    type: "button",
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        toast("Copied.");
      } catch {
        toast("The browser did not let the page copy; select the text instead.", "bad");
      }
    },
  }, label);
}

/** What a part of a page shows while there is nothing. @param {string} title @param {string} text @param {...any} more */
export function empty(title, text, ...more) {
  return h("div.empty", {}, h("h3", {}, title), h("p", {}, text), ...more);
}
