/**
 * Entities of a text as segments to draw: cut at every start and end, with all that cover each. Pure.
 *
 * @typedef {{start: number, end: number, text: string, label: string, score: number, index?: number}} Entity
 *   index: its place among the document's
 * @typedef {{text: string, start: number, end: number, covers: {entity: Entity, lane: number}[], ends: Entity[]}} Segment
 *   covers: shortest lanes first; ends: the entities whose last piece this is
 */

/**
 * The entities with offsets that index a JavaScript string, whatever unit the job asked for.
 * A job does not tell its unit; the entities' own texts do.
 * @param {string} text @param {Entity[]} entities @param {"utf16"|"codepoint"|"byte"} [likely] tried first
 * @returns {Entity[]|null} null: they do not belong to this text
 */
export function inUtf16(text, entities, likely = "utf16") {
  const units = { utf16: (/** @type {number} */ n) => n, codepoint: codepoints(text), byte: bytes(text) };
  for (const map of new Set([units[likely], ...Object.values(units)])) {
    const moved = entities.map((each) => ({ ...each, start: map(each.start), end: map(each.end) }));
    if (moved.every((each) => text.slice(each.start, each.end) === each.text)) return moved;
  }
  return null;
}

function codepoints(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (/** @type {number} */ n) => n;
  return lazily(text, () => 1);
}

function bytes(text) {
  return lazily(text, (code) => (code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4));
}

/** Offsets counted by `width` of each code point -> UTF-16; the table is made at the first use. */
function lazily(text, width) {
  /** @type {Map<number, number>|null} */
  let table = null;
  return (offset) => {
    if (!table) {
      table = new Map([[0, 0]]);
      let at = 0, units = 0;
      for (const character of text) {
        at += width(character.codePointAt(0));
        units += character.length;
        table.set(at, units);
      }
    }
    return table.get(offset) ?? -1;
  };
}

/**
 * A line to draw each entity on, so that no two that overlap share one; of nested ones the inner is nearer the text.
 * @param {Entity[]} entities @returns {Map<Entity, number>}
 */
export function lanes(entities) {
  const ordered = [...entities].sort((a, b) => a.start - b.start || b.end - a.end || a.label.localeCompare(b.label));
  const found = new Map();
  let cluster = [], reach = -1, taken = [];
  const close = () => {
    const top = Math.max(0, ...cluster.map((each) => found.get(each)));
    for (const each of cluster) found.set(each, top - found.get(each));
    cluster = [];
    taken = [];
  };
  for (const entity of ordered) {
    if (entity.start >= reach) close();
    let lane = taken.findIndex((end) => end <= entity.start);
    if (lane < 0) lane = taken.length;
    taken[lane] = entity.end;
    found.set(entity, lane);
    cluster.push(entity);
    reach = Math.max(reach, entity.end);
  }
  close();
  return found;
}

/**
 * @param {string} text @param {Entity[]} entities UTF-16 offsets
 * @param {number} [limit] only this much of the text
 * @returns {Segment[]} in order, and together the text
 */
export function segments(text, entities, limit = text.length) {
  const within = entities.filter((each) => each.start < each.end && each.start >= 0 && each.end <= text.length);
  const lane = lanes(within);
  const end = Math.min(limit, text.length);
  const edges = new Set([0, end]);
  for (const each of within) for (const edge of [each.start, each.end]) if (edge < end) edges.add(edge);
  const cuts = [...edges].sort((a, b) => a - b);
  const waiting = [...within].sort((a, b) => a.start - b.start);
  let next = 0;
  /** @type {Entity[]} */
  let active = [];
  const made = [];
  for (let i = 0; i + 1 < cuts.length; i++) {
    const [from, to] = [cuts[i], cuts[i + 1]];
    active = active.filter((each) => each.end > from);
    while (next < waiting.length && waiting[next].start <= from) active.push(waiting[next++]);
    const covers = active.map((entity) => ({ entity, lane: lane.get(entity) ?? 0 })).sort((a, b) => a.lane - b.lane);
    const ends = covers.map((each) => each.entity).filter((each) => each.end === to);
    made.push({ text: text.slice(from, to), start: from, end: to, covers, ends });
  }
  return made;
}
