/** Sign in with an API key, typed here or offered by a link. It stays in this tab. */

import { fill, h } from "../dom.js";
import { problemBox } from "../problems.js";
import { setKey } from "../session.js";

/** The second click of a double click on another page must not be an answer. */
const READ_MS = 500;

/** @param {any} ctx @param {Element} root */
export function show(ctx, root) {
  const input = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "gl_…" });
  const fault = h("div", {}, ctx.why && h("p.note", { role: "status" }, ctx.why));
  const button = h("button.button.primary.wide", { type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    const given = input.value.trim();
    if (!given) return;
    button.disabled = true;
    setKey(given);
    const error = await ctx.signIn();
    button.disabled = false;
    if (error === null) return ctx.again();
    setKey(null);
    fill(fault, problemBox(error));
    input.select();
  };
  fill(root, h("div.signin", {},
    h("form.panel", { onsubmit: submit, "aria-label": "Sign in" },
      h("h1", {}, "Gleaner"),
      h("p", {}, "Find entities of any kind you name, in any number of texts."),
      h("label", { for: "key" }, "API key"), input, fault, button,
      h("p.quiet.tiny", {}, "The key stays in this tab and ends with it. On a local stack it is in ", h("code", {}, "~/.gleaner/admin-key"),
        "; elsewhere an administrator makes one with ", h("code", {}, "gleaner keys create"), "."),
      h("p.tiny", {}, h("a", { href: "docs" }, "API reference")))));
  input.focus();
  return "Sign in";
}

/**
 * Ask before a link's key is used: whoever owns the key reads everything that is submitted with it.
 * @param {{tenant: string, role: string, key_id: string}} who as the service says of the key
 * @param {string} key
 * @param {{tenant: string, role: string}|null} current who is signed in now
 * @param {AbortSignal} signal closes the question; the answer is then no
 * @returns {Promise<boolean>}
 */
export function askToSignIn(who, key, current, signal) {
  return new Promise((resolve) => {
    const accept = h("button.button.primary", { value: "yes", disabled: true }, `Sign in as ${who.tenant}`);
    const dialog = h("dialog.dialog", { "aria-labelledby": "offer-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "offer-title" }, "Sign in as tenant ", h("bdi", {}, who.tenant), "?"),
        current && h("p.problem", { role: "alert" }, h("strong", {}, "You are signed in already"),
          h("span", {}, "as ", h("bdi", {}, current.tenant), ` · ${current.role}. This link replaces that with another key.`)),
        h("p", {}, "The link holds the key ", h("code", {}, `${key.slice(0, 7)}…`), ` (${who.key_id}), role ${who.role}, of tenant `,
          h("strong", {}, h("bdi", {}, who.tenant)), ". Whoever else holds a key of that tenant can read what you submit with it."),
        h("div.row.end", {},
          h("button.button", { value: "no", autofocus: true }, current ? `Stay ${current.tenant}` : "Cancel"), accept)));
    const close = () => dialog.close("no");
    dialog.addEventListener("close", () => {
      signal.removeEventListener("abort", close);
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    signal.addEventListener("abort", close);
    document.body.append(dialog);
    dialog.showModal();
    setTimeout(() => { accept.disabled = false; }, READ_MS);
  });
}
