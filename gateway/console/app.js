/** The page's composition root: session, API, router, and what is around the pages. */

import { Api } from "./api.js";
import { fill, h, toast } from "./dom.js";
import * as extract from "./pages/extract.js";
import * as job from "./pages/job.js";
import * as jobs from "./pages/jobs.js";
import * as queue from "./pages/queue.js";
import * as signin from "./pages/signin.js";
import * as webhooks from "./pages/webhooks.js";
import { inWords, problemBox } from "./problems.js";
import { parse, start, to } from "./router.js";
import * as session from "./session.js";

const ROLES = ["viewer", "submitter", "admin"];
const PAGES = { extract, jobs, webhooks, queue };
const NAMES = { extract: "Extract", jobs: "Jobs", webhooks: "Webhooks", queue: "Queue" };
const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

class App {
  constructor() {
    this.api = new Api(session.key, () => this.signOut("The key is not good any more."));
    /** What this page submitted, by job: its texts are nowhere else. @type {Map<string, any>} */
    this.runs = new Map();
    /** @type {any} GET /v1/limits: who I am */
    this.me = null;
    this.extract = null;
    /** What the page of the queue saw, by model. @type {Map<string, any[]>} */
    this.queueSamples = new Map();
    /** Why there is nobody signed in, where that must be told. */
    this.why = "";
    this._main = document.getElementById("main");
    this._top = document.getElementById("top");
    this._shown = new AbortController();
    this._offer = new AbortController();
    this._hash = "#/extract";
    this._route = parse("");
  }

  /** @param {"viewer"|"submitter"|"admin"} role */
  may(role) {
    return this.me !== null && ROLES.indexOf(this.me.role) >= ROLES.indexOf(role);
  }

  async begin() {
    session.applyTheme();
    const offered = session.takeKeyFromAddress(this._hash);
    addEventListener("hashchange", () => this._takeOffer(session.takeKeyFromAddress(this._hash)));
    document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); this._main.focus(); });
    await this.signIn();
    start((route) => this._show(route));
    await this._takeOffer(offered);
  }

  /** Ask whether to sign in with a link's key; only the latest one counts. @param {string|null} key */
  async _takeOffer(key) {
    if (key === null) return;
    this._offer.abort();
    const { signal } = this._offer = new AbortController();
    try {
      if (key === "") throw new Error("it is not written as one");
      const who = await new Api(() => key, () => undefined).get("v1/limits", {}, signal);
      if (this.me?.key_id === who.key_id) return toast(`You are signed in as ${who.tenant} already.`);
      if (!await signin.askToSignIn(who, key, this.me, signal)) return;
    } catch (error) {
      if (!signal.aborted) toast(`The link's key was not used: ${inWords(error)}`, "bad");
      return;
    }
    this.signOut("", key);
    await this.signIn();
    history.replaceState(null, "", `${location.pathname}${location.search}#/extract`);
    this._show(parse(location.hash));
  }

  /** Find out who the key is; without one, whether one is needed. @returns {Promise<unknown>} an error, or null */
  async signIn() {
    try {
      this.me = await this.api.get("v1/limits");
      this.why = "";
      return null;
    } catch (error) {
      this.me = null;
      if (error.status !== 401) this.why = inWords(error);
      return error;
    }
  }

  /** Forget whose page this was. @param {string} [why] @param {string|null} [next] the key of who comes next */
  signOut(why = "", next = null) {
    const was = this.me !== null;
    session.setKey(next);
    this.me = null;
    this.why = was ? why : "";
    this.runs.clear();
    this.queueSamples.clear();
    this.extract?.stop();
    this.extract = null;
    if (was && next === null) this._show(this._route);
  }

  again() {
    this._show(this._route);
  }

  _show(route) {
    const same = route.name === this._route.name && route.id === this._route.id;
    this._shown.abort();
    this._shown = new AbortController();
    this._route = route;
    this._hash = location.hash || this._hash;
    this._frame(route.name);
    const page = this.me === null ? signin : route.name === "jobs" && route.id ? job : PAGES[route.name];
    try {
      if (!page) throw new Error("There is no such page.");
      document.title = `${page.show(this, this._main, route, this._shown.signal)} · Gleaner`;
    } catch (error) {
      fill(this._main, problemBox(error));
    }
    if (!same) {
      scrollTo(0, 0);
      if (document.activeElement !== document.body) this._main.focus({ preventScroll: true });
    }
  }

  _frame(current) {
    const theme = session.theme();
    const themes = Object.keys(THEMES);
    const names = Object.keys(NAMES).filter((name) => name !== "queue" || this.may("admin"));
    fill(this._top,
      h("a.brand", { href: "#/extract" }, h("img", { src: new URL("icon.svg", import.meta.url).pathname, alt: "", width: 26, height: 26 }), "Gleaner"),
      this.me && h("nav.main", { "aria-label": "Pages" }, names.map((name) =>
        h("a", { href: to(name), "aria-current": name === current ? "page" : null }, NAMES[name]))),
      h("div.account", {},
        this.me && h("span.who", { title: `key ${this.me.key_id}` }, h("bdi", {}, this.me.tenant), " · ", this.me.role),
        h("button.button.small.theme", {
          type: "button", "aria-label": THEMES[theme], title: THEMES[theme],
          onclick: () => { session.setTheme(themes[(themes.indexOf(theme) + 1) % 3]); this._frame(current); this._top.querySelector(".theme").focus(); },
        }, { auto: "◐", light: "○", dark: "●" }[theme]),
        this.me && session.key() && h("button.button.small", { type: "button", onclick: () => this.signOut() }, "Sign out")));
  }
}

new App().begin();
