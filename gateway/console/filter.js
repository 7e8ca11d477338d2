/**
 * The part of the results that is shown: thresholds and labels, applied in the page to all that the model found. Pure.
 *
 * @typedef {import("./highlight.js").Entity} Entity
 * @typedef {{label: string, head: number, tail: number, score: number}} Relation head, tail: indexes of the document's entities
 * @typedef {{threshold: number, byLabel: Map<string, number>, hidden: Set<string>}} Filter
 *   byLabel: a threshold of its own for a label
 */

/** @param {number} threshold @returns {Filter} */
export const newFilter = (threshold) => ({ threshold, byLabel: new Map(), hidden: new Set() });

/** @param {Filter} filter @param {string} label */
export const thresholdOf = (filter, label) => filter.byLabel.get(label) ?? filter.threshold;

/** @param {Filter} filter @param {{label: string, score: number}} entity or relation */
export const passes = (filter, { label, score }) => score >= thresholdOf(filter, label) && !filter.hidden.has(label);

/**
 * Entities a label that reach its threshold, hidden or not; labels without any have 0.
 * @param {{entities: Entity[]}[]} results @param {Iterable<string>} labels @param {Filter} filter
 * @returns {Map<string, number>}
 */
export function countByLabel(results, labels, filter) {
  const counts = new Map([...labels].map((label) => [label, 0]));
  for (const result of results) {
    for (const entity of result.entities) {
      const reached = entity.score >= thresholdOf(filter, entity.label);
      counts.set(entity.label, (counts.get(entity.label) ?? 0) + (reached ? 1 : 0));
    }
  }
  return counts;
}

/**
 * Relations by name, of those whose ends are shown; hidden or not, as `countByLabel` counts entities.
 * @param {any[]} results @param {Iterable<string>} names @param {Filter} filter @param {Filter} relationFilter
 */
export function countRelations(results, names, filter, relationFilter) {
  const unhidden = { ...relationFilter, hidden: new Set() };
  const counts = new Map([...names].map((name) => [name, 0]));
  for (const result of results) {
    if (!result.relations?.length) continue;
    for (const { label } of filtered(result, filter, unhidden).relations) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return counts;
}

/**
 * A result as it is shown: a relation goes with each of its ends, and refers to the entities that stay.
 * @template {{entities: Entity[], relations?: Relation[]}} R
 * @param {R} result @param {Filter} filter of entities @param {Filter} [relationFilter] @returns {R}
 */
export function filtered(result, filter, relationFilter = filter) {
  const entities = result.entities.filter((each) => passes(filter, each));
  if (!result.relations) return { ...result, entities };
  const places = new Map(entities.map((each, index) => [each, index]));
  const relations = result.relations.filter((each) => passes(relationFilter, each)).map((each) => ({
    ...each, head: places.get(result.entities[each.head]) ?? -1, tail: places.get(result.entities[each.tail]) ?? -1,
  }));
  return { ...result, entities, relations: relations.filter(({ head, tail }) => head >= 0 && tail >= 0) };
}
