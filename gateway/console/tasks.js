/**
 * Relations and classifications: which models can do them, and how they are submitted. Pure.
 *
 * @typedef {{typed: string, head: Set<string>, tail: Set<string>}} Relation typed: its name, perhaps `: ` and a description
 * @typedef {{typed: string, classes: Map<string, string|null>, several: boolean}} Classification typed: its name; classes: with descriptions
 * @typedef {{relations: Relation[], classifications: Classification[]}} Questions
 * @typedef {{name: string, tasks?: string[]|null, limits?: {labels: number}|null}} Model as GET /v1/models has it
 */

const DOES = { entities: "find entities", relations: "find relations", classifications: "classify texts" };

/** The tasks of a model; null until a worker has reported them. @param {Model} model */
const tasksOf = (model) => (model.tasks === undefined ? ["entities"] : model.tasks); // an older service finds entities only

/**
 * Return why a model cannot do a task, or "".
 * @param {Model[]} models @param {Model|undefined} model the chosen one @param {"entities"|"relations"|"classifications"} task
 */
export function taskRefusal(models, model, task) {
  if (!model) return "The list of models could not be read.";
  if (tasksOf(model) === null) return `No worker has reported yet what ${model.name} can do.`;
  if (tasksOf(model).includes(task)) return "";
  const able = models.filter((each) => tasksOf(each)?.includes(task)).map((each) => each.name);
  return `${model.name} cannot ${DOES[task]}.${able.length ? ` ${able.join(" and ")} can: choose it under Options.` : ""}`;
}

/** Return `name: description` as its two parts. @param {string} typed */
export function named(typed) {
  const [name, ...described] = typed.split(": ");
  return { name: name.trim(), description: described.join(": ").trim() || null };
}

/**
 * Return why questions cannot be submitted, or "".
 * @param {Questions} questions @param {number} labels how many labels are named
 */
export function questionsRefusal({ relations, classifications }, labels) {
  const kinds = { relation: relations.map((each) => named(each.typed).name), classification: classifications.map((each) => each.typed.trim()) };
  for (const [kind, names] of Object.entries(kinds)) {
    if (names.includes("")) return `Name each ${kind}, or remove it.`;
    const twice = names.find((name, index) => names.indexOf(name) < index);
    if (twice) return `Two ${kind}s are named “${twice}”.`;
  }
  const bare = classifications.find((each) => !each.classes.size);
  if (bare) return `Add classes to “${bare.typed.trim()}”, or remove it.`;
  return relations.length && !labels ? "Relations are between entities: add at least one label." : "";
}

/** Return labels or classes as the API takes them. @param {Map<string, string|null>} labels */
export const labelField = (labels) => ([...labels.values()].some(Boolean) ? Object.fromEntries(labels) : [...labels.keys()]);

/**
 * Return the fields of a submission; those without questions are left out.
 * @param {Questions} questions @param {number} threshold the lowest score to keep
 */
export function questionFields({ relations, classifications }, threshold) {
  const relation = ({ typed, head, tail }) => {
    const { name, description } = named(typed);
    return [name, { ...(description ? { description } : {}), ...(head.size ? { head: [...head] } : {}), ...(tail.size ? { tail: [...tail] } : {}) }];
  };
  const classification = ({ typed, classes, several }) =>
    [typed.trim(), { labels: labelField(classes), ...(several ? { multi_label: true, threshold } : {}) }];
  return {
    ...(relations.length ? { relations: Object.fromEntries(relations.map(relation)) } : {}),
    ...(classifications.length ? { classifications: Object.fromEntries(classifications.map(classification)) } : {}),
  };
}
