/** Reads a job's results on from where the last read ended. */

import { ApiError, pause } from "../api.js";

const A_PAGE = 500;

export class Loader {
  /**
   * @param {import("../api.js").Api} api @param {string} id @param {AbortSignal} signal
   * @param {(results: any[]) => void} onResults
   */
  constructor(api, id, signal, onResults) {
    this._api = api;
    this._path = `v1/jobs/${encodeURIComponent(id)}/results`;
    this._signal = signal;
    this._onResults = onResults;
    /** @type {string|null} */
    this._cursor = null;
    /** All results of the job were read. */
    this.done = false;
    /** @type {Promise<void>|null} */
    this._running = null;
  }

  /** Read what is finished by now, but at most about `most` results. One read at a time. @param {number} [most] */
  pull(most = Infinity) {
    this._running ??= this._read(most).finally(() => { this._running = null; });
    return this._running;
  }

  async _read(most) {
    let count = 0;
    while (!this.done && !this._signal.aborted && count < most) {
      const page = await this._page(Math.min(A_PAGE, most));
      count += page.data.length;
      this._cursor = page.next_cursor;
      this.done = page.next_cursor === null;
      this._onResults(page.data);
      if (!page.data.length && !page.complete) return;
    }
  }

  async _page(limit) {
    for (;;) {
      try {
        return await this._api.get(this._path, { limit, cursor: this._cursor }, this._signal);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 429 || !error.retryAfter || error.retryAfter > 30) throw error;
        await pause(error.retryAfter * 1000, this._signal);
        if (this._signal.aborted) throw error;
      }
    }
  }
}
