/**
 * What of the results is shown: thresholds and labels, applied in the page to what the model found. Pure.
 *
 * @typedef {import("./highlight.js").Entity} Entity
 * @typedef {{threshold: number, byLabel: Map<string, number>, hidden: Set<string>}} Filter
 *   byLabel: a threshold of its own for a label
 */

/** @param {number} threshold @returns {Filter} */
export const newFilter = (threshold) => ({ threshold, byLabel: new Map(), hidden: new Set() });

/** @param {Filter} filter @param {string} label */
export const thresholdOf = (filter, label) => filter.byLabel.get(label) ?? filter.threshold;

/** @param {Filter} filter @param {Entity} entity */
export const passes = (filter, entity) =>
  entity.score >= thresholdOf(filter, entity.label) && !filter.hidden.has(entity.label);

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

/** A result as it is shown. @template {{entities: Entity[]}} R @param {R} result @param {Filter} filter @returns {R} */
export const filtered = (result, filter) => ({ ...result, entities: result.entities.filter((each) => passes(filter, each)) });
