/** Which page a hash names. Pure but for `start`. */

/**
 * @param {string} hash "#/jobs/job_1?status=failed"
 * @returns {{name: string, id: string, query: URLSearchParams}}
 */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = ""] = path.split("/");
  return { name: name || "extract", id: decode(id), query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** @param {string} name @param {string} [id] */
export const to = (name, id = "") => `#/${name}${id ? `/${encodeURIComponent(id)}` : ""}`;

/** Call back for the current hash and at every change. @param {(route: ReturnType<typeof parse>) => void} show */
export function start(show) {
  const look = () => {
    if (location.hash && !location.hash.startsWith("#/")) return; // an anchor, as the skip link's
    show(parse(location.hash));
  };
  addEventListener("hashchange", look);
  look();
}
