/** A text with its entities marked, drawn from `highlight.segments`; `data-entities` of a mark are their indexes. */

import { h } from "../dom.js";
import { score } from "../format.js";
import { inUtf16, segments } from "../highlight.js";

const FIRST = 4000, MORE = 20_000, MAX_LANES = 4;

/**
 * @param {string} text @param {import("../highlight.js").Entity[]} entities @param {(label: string) => number} hueOf
 * @param {"utf16"|"codepoint"|"byte"} [unit] what offsets count, where it is known
 * @returns {(Element & {reveal: (index: number) => void})|null} null: the entities are not of this text.
 *   `reveal` shows enough of the text for an entity. The event `drawn` says that there are new marks.
 */
export function markedText(text, entities, hueOf, unit) {
  const placed = inUtf16(text, entities.map((each, index) => ({ ...each, index })), unit);
  if (placed === null) return null;
  const body = h("div.text", { dir: "auto" });
  const box = h("div.marked", {}, body);
  let limit = text.length <= FIRST * 1.2 ? text.length : FIRST;
  const draw = () => {
    body.replaceChildren(...segments(text, placed, limit).flatMap((segment) => drawn(segment, hueOf)));
    more?.remove();
    box.dispatchEvent(new Event("drawn"));
    if (limit >= text.length) return;
    more = h("button.button.small", { type: "button", onclick: () => { limit += MORE; draw(); } },
      `Show more (${(text.length - limit).toLocaleString("en")} characters)`);
    box.append(more);
  };
  /** @type {Element|undefined} */
  let more;
  draw();
  return Object.assign(box, { reveal(/** @type {number} */ index) {
    if (placed[index].end <= limit) return;
    limit = placed[index].end + MORE;
    draw();
  } });
}

function drawn(segment, hueOf) {
  if (!segment.covers.length) return [segment.text];
  const inner = segment.covers[0].entity;
  const vars = { "--tint": `var(--tint-${hueOf(inner.label) % 8})` };
  let deepest = 0;
  for (const { entity, lane } of segment.covers.slice(0, MAX_LANES)) {
    if (lane >= MAX_LANES) continue;
    vars[`--lane-${lane}`] = `var(--hue-${hueOf(entity.label) % 8})`;
    deepest = Math.max(deepest, lane);
  }
  const title = segment.covers.map(({ entity }) => `${entity.label} ${score(entity.score)}`).join("\n");
  const mark = h(`mark.deep-${deepest}`, { vars, title, data: { entities: segment.covers.map(({ entity }) => entity.index).join(" ") } }, segment.text);
  return [mark, ...segment.ends.map((entity) => tag(entity, hueOf))];
}

/** @param {import("../highlight.js").Entity} entity @param {(label: string) => number} hueOf */
export function tag(entity, hueOf) {
  return h("bdi.tag", { data: { hue: String(hueOf(entity.label) % 8) } }, entity.label, h("span.score", {}, score(entity.score)));
}
