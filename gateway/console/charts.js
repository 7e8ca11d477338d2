/** Small line charts in SVG of values over time. */

import { h } from "./dom.js";

const WIDTH = 320, HEIGHT = 88, LEFT = 2, TOP = 8, BOTTOM = 6;

/**
 * @param {(number|null)[]} values
 * @returns {{paths: string[], area: string, top: number, last: {x: number, y: number}|null}} runs without gaps
 */
export function geometry(values) {
  const top = niceTop(1.15 * Math.max(0, ...values.filter((v) => v !== null)));
  const x = (/** @type {number} */ i) => LEFT + ((WIDTH - 2 * LEFT - 6) * i) / Math.max(1, values.length - 1);
  const y = (/** @type {number} */ v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top);
  const runs = [];
  let run = [];
  values.forEach((value, i) => {
    if (value === null) { if (run.length) runs.push(run); run = []; }
    else run.push([x(i), y(value)]);
  });
  if (run.length) runs.push(run);
  const line = (points) => points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
  const floor = HEIGHT - BOTTOM;
  const area = runs.map((points) => `${line(points)}L${points.at(-1)[0].toFixed(1)} ${floor}L${points[0][0].toFixed(1)} ${floor}Z`).join("");
  const end = values.length && values.at(-1) !== null ? runs.at(-1)?.at(-1) : null;
  return { paths: runs.map(line), area, top, last: end ? { x: end[0], y: end[1] } : null };
}

/** The next of 1, 2, 3, 5 times a power of ten. @param {number} value */
export function niceTop(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/**
 * @param {{title: string, values: (number|null)[], format: (value: number|null) => string, span: string}} what
 * @returns {Element}
 */
export function lineChart({ title, values, format, span }) {
  const { paths, area, top, last } = geometry(values);
  const now = values.at(-1) ?? null;
  return h("figure.chart", {},
    h("figcaption", {}, h("span", {}, title), h("strong", {}, format(now))),
    h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} over ${span}: now ${format(now)}`, preserveAspectRatio: "none" },
      h("line", { class: "grid", x1: 0, x2: WIDTH, y1: TOP, y2: TOP }),
      h("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
      h("path", { class: "area", d: area }),
      paths.map((d) => h("path", { class: "line", d })),
      last && h("circle", { class: "dot", cx: last.x, cy: last.y, r: 3 })),
    h("div.axis", {}, h("span", {}, span), h("span", {}, `top ${format(top)}`)));
}
