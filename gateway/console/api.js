/** The HTTP API from the page: JSON, problems as `ApiError`, results and events as streams. */

import { eventsOf } from "./events.js";

const BASE = new URL("../", import.meta.url);
const RECONNECT_MS = [300, 1000, 2000, 4000, 8000];

/** An answer that is no success, in the words of its problem+json. */
export class ApiError extends Error {
  /** @param {number} status 0: no answer @param {Record<string, any>} problem */
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code || "no_answer";
    this.title = problem.title || "The service did not answer";
    this.requestId = problem.request_id || "";
    /** @type {{pointer: string, detail: string}[]} */
    this.places = problem.errors || [];
    /** @type {number|null} seconds */
    this.retryAfter = problem.retryAfter ?? null;
  }
}

export class Api {
  /** @param {() => string|null} key @param {() => void} onSignedOut told when the key is not good any more */
  constructor(key, onSignedOut) {
    this._key = key;
    this._onSignedOut = onSignedOut;
  }

  /**
   * @param {string} method @param {string} path below the service, as "v1/jobs"
   * @param {{query?: Record<string, any>, json?: any, body?: BodyInit, headers?: Record<string, string>,
   *   signal?: AbortSignal}} [more]
   * @returns {Promise<Response>} a success
   */
  async send(method, path, { query = {}, json, body, headers = {}, signal } = {}) {
    const url = new URL(path, BASE);
    for (const [name, value] of Object.entries(query)) {
      for (const each of Array.isArray(value) ? value : [value]) {
        if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, String(each));
      }
    }
    const key = this._key();
    const all = { Accept: "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}), ...headers };
    if (json !== undefined) {
      all["Content-Type"] = "application/json";
      body = JSON.stringify(json);
    }
    let answer;
    try {
      answer = await fetch(url, { method, body, headers: all, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, { detail: "No answer came. Is the service running, and the network up?" });
    }
    if (answer.ok || answer.status === 304) return answer;
    const problem = await answer.json().catch(() => ({ title: answer.statusText }));
    problem.request_id ||= answer.headers.get("X-Request-ID");
    problem.retryAfter = Number(answer.headers.get("Retry-After")) || null;
    throw this._refused({ status: answer.status, ...problem }, key);
  }

  /** @param {Record<string, any>} problem @param {string|null} key that was refused */
  _refused(problem, key) {
    if (problem.status === 401 && key === this._key()) this._onSignedOut(); // not for who was here before
    return new ApiError(problem.status, problem);
  }

  /** A JSON answer; null for one without a body. @returns {Promise<any>} */
  async call(method, path, more) {
    const answer = await this.send(method, path, more);
    return answer.status === 204 ? null : answer.json();
  }

  /** @param {string} path @param {Record<string, any>} [query] @param {AbortSignal} [signal] */
  get(path, query, signal) {
    return this.call("GET", path, { query, signal });
  }

  /**
   * A job as it changes, to its end; goes on after a broken connection.
   * @param {string} id @param {AbortSignal} signal
   * @returns {AsyncGenerator<any>} jobs
   */
  async *follow(id, signal) {
    let last = "", failures = 0;
    while (!signal.aborted) {
      try {
        const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
        const key = this._key();
        const answer = await this.send("GET", `v1/jobs/${encodeURIComponent(id)}/events`, { headers, signal });
        if (answer.status === 204) return;
        for await (const event of eventsOf(chunks(answer))) {
          failures = 0;
          if (event.event === "error") throw this._refused(JSON.parse(event.data), key);
          last = event.id || last;
          if (event.data) yield JSON.parse(event.data);
          if (event.event === "terminal") return;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
        if (failures >= 20) throw error;
      }
      await pause(RECONNECT_MS[Math.min(failures++, RECONNECT_MS.length - 1)], signal);
    }
  }
}

/** The text of an answer as it comes. @param {Response} answer */
async function* chunks(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** @param {number} ms @param {AbortSignal} signal ends it early */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/**
 * Look now, and again and again until the signal, one look at a time; not while nobody sees the page.
 * @param {number} ms between two looks @param {() => Promise<void>} look never fails @param {AbortSignal} signal
 */
export async function every(ms, look, signal) {
  while (!signal.aborted) {
    if (!document.hidden) await look();
    await pause(ms, signal);
  }
}

/** A new Idempotency-Key; also where the page is not a secure context. */
export function newKey() {
  return `console-${Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("")}`;
}
