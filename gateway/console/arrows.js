/** An arrow from one word to another as paths of SVG. Pure. */

const HEIGHT = 26, WING = 5;

/**
 * An arc over the words, and the point at its end.
 * @param {{x: number, y: number}} from @param {{x: number, y: number}} to the tops of two words, in pixels
 */
export function arc(from, to) {
  const lift = Math.min(HEIGHT, 8 + Math.abs(to.x - from.x) / 8);
  const top = Math.min(from.y, to.y) - lift;
  const n = (/** @type {number} */ value) => value.toFixed(1);
  return {
    shaft: `M${n(from.x)} ${n(from.y)}C${n(from.x)} ${n(top)} ${n(to.x)} ${n(top)} ${n(to.x)} ${n(to.y)}`,
    point: `M${n(to.x - WING)} ${n(to.y - WING - 2)}L${n(to.x)} ${n(to.y)}L${n(to.x + WING)} ${n(to.y - WING - 2)}`,
  };
}
