/** Sign in with an API key. It stays in this tab. */

import { fill, h } from "../dom.js";
import { problemBox } from "../problems.js";
import { setKey } from "../session.js";

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
