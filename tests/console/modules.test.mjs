import assert from "node:assert/strict";
import test from "node:test";

import { arc } from "../../gateway/console/arrows.js";
import { geometry, niceTop } from "../../gateway/console/charts.js";
import { eventsOf } from "../../gateway/console/events.js";
import { toCsv, toJsonl } from "../../gateway/console/exports.js";
import { countByLabel, countRelations, filtered, newFilter, passes } from "../../gateway/console/filter.js";
import { ago, bytes, duration, score } from "../../gateway/console/format.js";
import { inUtf16, lanes, segments } from "../../gateway/console/highlight.js";
import { binaryKind, decode, labels, ndjson, split } from "../../gateway/console/inputs.js";
import { refreshed } from "../../gateway/console/pages/jobs.js";
import { parse, to } from "../../gateway/console/router.js";
import { documents, fromCsv, fromJson, fromJsonl, idColumn, readTable, textColumn } from "../../gateway/console/tables.js";
import { questionFields, questionsRefusal, taskRefusal } from "../../gateway/console/tasks.js";

/** The entity of the first occurrence of some words. */
function entity(text, words, label, score = 0.9) {
  const start = text.indexOf(words);
  return { start, end: start + words.length, text: words, label, score };
}

const joined = (parts) => parts.map((each) => each.text).join("");

test("segments put the text together again, whatever overlaps", () => {
  const text = "The Bank of New York Mellon in New York";
  const found = [
    entity(text, "Bank of New York Mellon", "org"), entity(text, "New York", "city"), entity(text, "York Mellon in", "odd"),
  ];
  const parts = segments(text, found);
  assert.equal(joined(parts), text);
  assert.deepEqual(parts.map((each) => [each.text, each.covers.map((c) => c.entity.label).sort()]), [
    ["The ", []], ["Bank of ", ["org"]], ["New ", ["city", "org"]], ["York", ["city", "odd", "org"]], [" Mellon", ["odd", "org"]],
    [" in", ["odd"]], [" New York", []],
  ]);
  assert.deepEqual(parts.flatMap((each) => each.ends.map((e) => e.label)), ["city", "org", "odd"]);
});

test("what overlaps has a line of its own, the inner one nearer the text", () => {
  const text = "the Bank of New York and Paris";
  const [outer, inner, alone] = [entity(text, "Bank of New York", "org"), entity(text, "New York", "city"), entity(text, "Paris", "city")];
  const found = lanes([alone, inner, outer]);
  assert.deepEqual([found.get(inner), found.get(outer), found.get(alone)], [0, 1, 0]);
});

test("the same words under two labels are drawn on two lines", () => {
  const text = "Jordan";
  const found = [entity(text, "Jordan", "person"), entity(text, "Jordan", "country")];
  assert.deepEqual([...lanes(found).values()].sort(), [0, 1]);
  assert.equal(segments(text, found)[0].ends.length, 2);
});

test("a text without entities is one segment, an empty one none", () => {
  assert.deepEqual(segments("abc", []).map((each) => each.text), ["abc"]);
  assert.deepEqual(segments("", []), []);
});

test("a limit cuts the text, and an entity over the cut still covers its part", () => {
  const text = "Grace Hopper wrote";
  const parts = segments(text, [entity(text, "Grace Hopper", "person")], 5);
  assert.deepEqual(parts.map((each) => [each.text, each.covers.length, each.ends.length]), [["Grace", 1, 0]]);
});

test("entities outside the text are left out", () => {
  assert.equal(segments("abc", [{ start: 2, end: 9, text: "", label: "x", score: 1 }])[0].covers.length, 0);
});

test("offsets in any unit find the same words behind emoji and other scripts", () => {
  const text = "👋🏽 Zoë met 李明 and דנה in São Paulo 🇧🇷";
  for (const words of ["Zoë", "李明", "דנה", "São Paulo"]) {
    const start = text.indexOf(words);
    const before = text.slice(0, start);
    const units = {
      utf16: [start, start + words.length],
      codepoint: [[...before].length, [...before + words].length],
      byte: [Buffer.byteLength(before), Buffer.byteLength(before + words)],
    };
    for (const [unit, [from, to]] of Object.entries(units)) {
      const [moved] = inUtf16(text, [{ start: from, end: to, text: words, label: "x", score: 1 }], "codepoint");
      assert.deepEqual([moved.start, moved.end], [start, start + words.length], `${words} in ${unit}`);
    }
  }
});

test("entities of another text are seen to be so", () => {
  assert.equal(inUtf16("abc", [{ start: 0, end: 2, text: "xy", label: "x", score: 1 }]), null);
});

test("many entities are cut in time that grows with their number", () => {
  const text = "ab ".repeat(20_000);
  const found = Array.from({ length: 20_000 }, (_, i) => ({ start: 3 * i, end: 3 * i + 2, text: "ab", label: "x", score: 1 }));
  const began = performance.now();
  assert.equal(joined(segments(text, found)), text);
  assert.ok(performance.now() - began < 2000);
});

test("a threshold counts from itself on, and a label's own goes before the common one", () => {
  const filter = newFilter(0.5);
  filter.byLabel.set("drug", 0.8);
  const result = { entities: [{ label: "drug", score: 0.79 }, { label: "drug", score: 0.8 }, { label: "city", score: 0.5 }, { label: "city", score: 0.4999 }] };
  assert.deepEqual(result.entities.map((each) => passes(filter, each)), [false, true, true, false]);
  assert.deepEqual([...countByLabel([result], ["drug", "city", "date"], filter)], [["drug", 1], ["city", 1], ["date", 0]]);
  filter.hidden.add("city");
  assert.deepEqual(filtered(result, filter).entities, [{ label: "drug", score: 0.8 }]);
  assert.equal(countByLabel([result], [], filter).get("city"), 1, "what is hidden is still counted");
});

test("a relation is shown with both of its ends, and refers to the entities that are shown", () => {
  const [filter, relationFilter] = [newFilter(0.5), newFilter(0.3)];
  const relation = (head, tail, score, label = "works for") => ({ label, head, tail, score });
  const result = {
    entities: [{ label: "city", score: 0.9 }, { label: "person", score: 0.4 }, { label: "person", score: 0.8 }, { label: "firm", score: 0.7 }],
    relations: [relation(2, 3, 0.3), relation(1, 3, 0.9), relation(2, 0, 0.29), relation(2, 0, 0.6, "lives in")],
  };
  assert.deepEqual(filtered(result, filter, relationFilter).relations, [relation(1, 2, 0.3), relation(1, 0, 0.6, "lives in")]);
  relationFilter.hidden.add("lives in");
  assert.deepEqual(filtered(result, filter, relationFilter).relations, [relation(1, 2, 0.3)]);
  const counts = countRelations([result, { entities: [] }], ["founded"], filter, relationFilter);
  assert.deepEqual([...counts], [["founded", 0], ["works for", 1], ["lives in", 1]]);
  filter.hidden.add("firm");
  assert.deepEqual(filtered(result, filter, relationFilter).relations, []);
  assert.equal("relations" in filtered({ entities: [] }, filter), false);
});

test("a model's tasks decide which questions are offered, and another model that can is named", () => {
  const models = [{ name: "old" }, { name: "new", tasks: ["entities", "relations"] }, { name: "idle", tasks: null }];
  assert.equal(taskRefusal(models, models[1], "relations"), "");
  assert.equal(taskRefusal(models, models[0], "entities"), "");
  assert.equal(taskRefusal(models, models[0], "relations"), "old cannot find relations. new can: choose it under Options.");
  assert.equal(taskRefusal(models, models[1], "classifications"), "new cannot classify texts.");
  assert.match(taskRefusal(models, models[2], "relations"), /^No worker has reported/);
  assert.match(taskRefusal([], undefined, "relations"), /could not be read/);
});

test("questions are submitted by name; incomplete ones are refused with their name", () => {
  const relation = (typed, head = [], tail = []) => ({ typed, head: new Set(head), tail: new Set(tail) });
  const classification = (typed, classes, several = false) => ({ typed, classes: new Map(classes.map((each) => [each, null])), several });
  const questions = {
    relations: [relation(" works for: is employed by ", ["person"]), relation("near")],
    classifications: [classification("topic", ["sports", "politics"]), classification("tone", ["kind"], true)],
  };
  assert.deepEqual(questionFields(questions, 0.1), {
    relations: { "works for": { description: "is employed by", head: ["person"] }, near: {} },
    classifications: { topic: { labels: ["sports", "politics"] }, tone: { labels: ["kind"], multi_label: true, threshold: 0.1 } },
  });
  assert.deepEqual(questionFields({ relations: [], classifications: [] }, 0.1), {});
  const refusal = (changes, labels = 1) => questionsRefusal({ relations: [], classifications: [], ...changes }, labels);
  assert.equal(refusal({ relations: [relation(" ")] }), "Name each relation, or remove it.");
  assert.equal(refusal({ relations: [relation("near"), relation("near: close to")] }), "Two relations are named “near”.");
  assert.equal(refusal({ classifications: [classification("tone", [])] }), "Add classes to “tone”, or remove it.");
  assert.match(refusal({ relations: [relation("near")] }, 0), /add at least one label/);
  assert.equal(refusal({ classifications: questions.classifications }, 0), "");
});

test("an arrow begins and ends at its words and rises above the higher one, in either direction", () => {
  for (const [from, to] of [[{ x: 10, y: 60 }, { x: 200, y: 30 }], [{ x: 200, y: 30 }, { x: 10, y: 60 }]]) {
    const numbers = arc(from, to).shaft.match(/-?[\d.]+/g).map(Number);
    assert.deepEqual([numbers.slice(0, 2), numbers.slice(-2)], [[from.x, from.y], [to.x, to.y]]);
    assert.ok(numbers[3] < 30 && numbers[3] > 0);
  }
});

test("CSV has the API's columns, quotes what must be quoted, and a row for a document without entities", () => {
  const made = toCsv([
    { index: 0, id: 'a,"b"', status: "succeeded", entities: [{ start: 0, end: 3, text: "x\ny", label: "l", score: 0.5 }], error: null },
    { index: 1, id: "1", status: "failed", entities: [], error: { code: "empty_text" } },
  ]);
  assert.deepEqual(made, [
    "index,id,status,start,end,text,label,score,error\r\n", '0,"a,""b""",succeeded,0,3,"x\ny",l,0.5,\r\n', "1,1,failed,,,,,,empty_text\r\n",
  ]);
  assert.deepEqual(toJsonl([{ a: 1 }, { a: 2 }]), ['{"a":1}\n', '{"a":2}\n']);
});

test("CSV of relations has both of its entities, CSV of classes each class, and a row for a document without any", () => {
  const results = [
    {
      index: 0, id: "a", status: "succeeded", error: null,
      entities: [{ start: 0, end: 3, text: "Ada", label: "person", score: 0.9 }, { start: 7, end: 9, text: "X,", label: "firm", score: 0.8 }],
      relations: [{ label: "works for", head: 0, tail: 1, score: 0.7 }],
      classifications: { topic: [{ label: "=sport", score: 1 }], tone: [] },
    },
    { index: 1, id: "b", status: "failed", entities: [], error: { code: "empty_text" } },
  ];
  assert.deepEqual(toCsv(results, "relations"), [
    "index,id,status,relation,score,head,head_start,head_end,head_text,head_label,tail,tail_start,tail_end,tail_text,tail_label,error\r\n",
    '0,a,succeeded,works for,0.7,0,0,3,Ada,person,1,7,9,"X,",firm,\r\n',
    "1,b,failed,,,,,,,,,,,,,empty_text\r\n",
  ]);
  assert.deepEqual(toCsv(results, "classifications"), [
    "index,id,status,classification,label,score,error\r\n", "0,a,succeeded,topic,'=sport,1,\r\n", "1,b,failed,,,,empty_text\r\n",
  ]);
});

test("what a spreadsheet would run, and what ends a line elsewhere, is written as text", () => {
  const [, first, second] = toCsv([{
    index: 0, id: "=1+1", status: "succeeded", error: null,
    entities: [{ start: 0, end: 3, text: "+47 22", label: "@l", score: 0.5 }, { start: 0, end: 1, text: "\tx", label: "a-b", score: 1 }],
  }]);
  assert.deepEqual([first, second], ["0,'=1+1,succeeded,0,3,'+47 22,'@l,0.5,\r\n", "0,'=1+1,succeeded,0,1,'\tx,a-b,1,\r\n"]);
  const [line] = toJsonl([{ text: "a\u2028b\u0085c" }]);
  assert.equal(line, '{"text":"a\\u2028b\\u0085c"}\n');
  assert.deepEqual(JSON.parse(line), { text: "a\u2028b\u0085c" });
});

test("texts are split as asked", () => {
  const text = "one\ntwo\r\n\r\nthree\n \n\n";
  assert.deepEqual(split(text, "whole"), [{ text }]);
  assert.deepEqual(split(text, "lines").map((each) => each.text), ["one", "two", "three"]);
  assert.deepEqual(split(text, "blocks").map((each) => each.text), ["one\ntwo", "three"]);
  assert.deepEqual(split(" \n ", "whole"), []);
});

const values = (table) => table.rows.map((row) => row.values);

test("JSON lines are objects or strings; other lines are faults with their number", () => {
  const table = fromJsonl('{"id": 7, "text": "a"}\n"b"\n\n[1]\nnope\n{"id": 12345678901234567890, "text": "c"}');
  assert.deepEqual(values(table), [{ id: "7", text: "a" }, { text: "b" }]);
  assert.deepEqual(table.faults, [
    "line 5 is not JSON", "line 4 is neither an object nor a string",
    "line 6: id is a number too large to be read exactly; put it in quotes",
  ]);
});

test("a .json file is an array, an object, or lines", () => {
  const rows = [{ text: "a" }, { text: "b" }];
  assert.deepEqual(values(fromJson(JSON.stringify(rows, null, 2))), rows);
  assert.deepEqual(values(fromJson('{"text": "a"}')), [{ text: "a" }]);
  assert.deepEqual(values(fromJson('{"text": "a"}\n{"text": "b"}\n')), rows);
  assert.deepEqual(fromJson("[1]").faults, ["item 1 is neither an object nor a string"]);
  assert.deepEqual(values(readTable("x.JSON", '["a"]')), [{ text: "a" }]);
  assert.equal(readTable("x.md", "a"), null);
});

test("a row's own labels and options go along; those of another meaning are faults, unless they are not to be used", () => {
  const table = fromJsonl('{"text":"a","labels":["x"],"options":{"flat":false}}\n{"text":"b","labels":[[0,5,"PER"]]}\n{"text":"c","labels":{"x":"y"}}\n{"text":"d","options":[1]}');
  const { docs, faults } = documents(table, "text", "");
  assert.deepEqual(docs, [{ text: "a", labels: ["x"], options: { flat: false } }, { text: "c", labels: { x: "y" } }]);
  assert.deepEqual(faults, ["line 2: its labels are not a list of strings", "line 4: its options are no object"]);
  assert.deepEqual(documents(table, "text", "", false).docs.map((doc) => doc.text), ["a", "b", "c", "d"]);
  assert.deepEqual(documents(table, "text", "", false).faults, []);
});

test("a row's own relations and classifications go along; annotations of the same names are faults", () => {
  const asked = { relations: { near: { head: ["x"] } }, classifications: { topic: ["a", "b"] } };
  const lines = [{ text: "a", ...asked }, { text: "b", relations: [{ head: 0, tail: 1 }] }, { text: "c", classifications: ["a"] }, { text: "d", relations: ["near"] }];
  const { docs, faults } = documents(fromJsonl(lines.map((line) => JSON.stringify(line)).join("\n")), "text", "");
  assert.deepEqual(docs, [{ text: "a", ...asked }, { text: "d", relations: ["near"] }]);
  assert.deepEqual(faults, ["line 2: its relations are not a list of strings", "line 3: its classifications are no object"]);
});

test("CSV is read with quotes, line breaks in cells, and its own separator", () => {
  const table = fromCsv('id;text\r\n1;"a; ""b""\r\nc"\r\n2;d\r3;\n\n"4";5" pipe');
  assert.deepEqual(table.columns, ["id", "text"]);
  assert.deepEqual(values(table), [
    { id: "1", text: 'a; "b"\r\nc' }, { id: "2", text: "d" }, { id: "3", text: "" }, { id: "4", text: '5" pipe' },
  ]);
  assert.deepEqual([table.faults, table.broken], [[], false]);
});

test("no row is cut, merged or garbled: it is a fault with its line", () => {
  const cut = fromCsv("id,text\n1,Ada lived in London, near Grace\n2,b\n3\n");
  assert.deepEqual(values(cut), [{ id: "2", text: "b" }]);
  assert.deepEqual(cut.faults, [
    "line 2 has 3 cells, the header 2; is a text with “,” not in quotes?", "line 4 has 1 cells, the header 2; is a text with “,” not in quotes?",
  ]);
  assert.deepEqual(fromCsv("text\nAda, Countess of Lovelace\n").rows, []);
  const open = fromCsv('id,text\n1,"a\nb"\n2,"never closed\n3,c\n');
  assert.deepEqual([open.broken, open.rows, open.faults], [true, [], ["the quote that opens in line 4 is never closed"]]);
  const escaped = fromCsv('id,text\n1,"Ada said \\"hello\\""\n2,b\n');
  assert.deepEqual(values(escaped), [{ id: "2", text: "b" }]);
  assert.match(escaped.faults[0], /^line 2: text follows a closing quote/);
  const twice = fromCsv("text,text\na,b\n");
  assert.deepEqual([twice.broken, twice.faults], [true, ["the header names “text” twice"]]);
});

test("quotes in TSV are literal unless the whole cell is in quotes, and never swallow rows", () => {
  const tsv = (content) => values(fromCsv(content, "\t"));
  assert.deepEqual(tsv('id\ttext\n1\t"Hi" she said\n2\t"a ""b"""\n3\t"two\nlines"\n4\t"open\n'), [
    { id: "1", text: '"Hi" she said' }, { id: "2", text: 'a "b"' }, { id: "3", text: "two\nlines" }, { id: "4", text: '"open' },
  ]);
  assert.deepEqual(tsv('id\ttext\n1\t"Hello there\n2\tHe said "\n'), [{ id: "1", text: '"Hello there' }, { id: "2", text: 'He said "' }]);
  assert.deepEqual(tsv('text\n"Hello there\nHe said "\n'), [{ text: '"Hello there' }, { text: 'He said "' }]);
  assert.deepEqual(tsv("id\ttext\n1\t\n"), [{ id: "1", text: "" }]);
});

test("a file of open quotes is read in time that grows with its size", () => {
  for (const comma of [",", "\t"]) {
    const began = performance.now();
    fromCsv(`id${comma}text\n${`1${comma}"x\n`.repeat(100_000)}`, comma);
    fromCsv(`id${comma}text\n${`1${comma}"x" y\n`.repeat(100_000)}`, comma);
    fromCsv(`id${comma}text\n1${comma}${'"'.repeat(1_000_001)}`, comma);
    assert.ok(performance.now() - began < 3000);
  }
});

test("every table of strings that is written as CSV is read back", () => {
  const parts = ["", "a", '"', ",", "\n", "\r\n", "'", " ", "é", '""', "=1"];
  let seed = 7;
  const pick = () => parts[(seed = (seed * 1103515245 + 12345) % 2147483648) % parts.length];
  for (let round = 0; round < 300; round++) {
    const rows = Array.from({ length: 4 }, () => ({ id: `x${pick()}${pick()}`, text: pick() + pick() + pick() }));
    const quoted = (cell) => `"${cell.replaceAll('"', '""')}"`;
    const content = ["id,text", ...rows.map((row) => `${quoted(row.id)},${quoted(row.text)}`)].join("\r\n");
    assert.deepEqual(values(fromCsv(content, ",")), rows, content);
  }
});

test("the columns of texts and ids are guessed; ids that repeat are left out, and texts that are empty are counted", () => {
  const table = fromCsv("key,note,long\n1,a,a long text\n1,b,another one\n2, ,c\n");
  assert.deepEqual([textColumn(table), idColumn(table)], ["long", "key"]);
  assert.deepEqual(documents(table, "long", "key"), {
    docs: [{ text: "a long text" }, { text: "another one" }, { text: "c" }], faults: [], notes: ["key is empty or repeats: documents are numbered"],
  });
  assert.deepEqual(documents(table, "note", "long").docs[0], { text: "a", id: "a long text" });
  assert.deepEqual(documents(table, "note", "long").notes, ["1 without a text will fail"]);
});

test("bytes that are not UTF-8 are not text until their encoding is chosen", () => {
  const bytes = (...all) => Uint8Array.from(all);
  assert.equal(decode(bytes(0x5a, 0x6f, 0xeb)), null);
  assert.equal(decode(bytes(0x5a, 0x6f, 0xeb), "windows-1252"), "Zoë");
  assert.equal(decode(bytes(0xef, 0xbb, 0xbf, 0x61)), "a");
  assert.equal(decode(bytes(0xff, 0xfe, 0x61, 0)), "a");
  assert.equal(decode(bytes(0xfe, 0xff, 0, 0x61)), "a");
  assert.equal(decode(bytes(0x61, 0, 0x62, 0)), null, "UTF-16 without a mark");
  assert.equal(binaryKind(bytes(0x50, 0x4b, 3, 4)), "a ZIP or Office file");
  assert.equal(binaryKind(bytes(0x61)), "");
});

test("labels may be typed many at once; a description runs to the end of its line", () => {
  assert.deepEqual(labels("person, drug: a medicine, by name\ncity; country\n"), [
    { name: "person", description: null }, { name: "drug", description: "a medicine, by name" },
    { name: "city", description: null }, { name: "country", description: null },
  ]);
  assert.deepEqual(labels("city: a town or village, not a country"), [{ name: "city", description: "a town or village, not a country" }]);
});

test("a submission is its head and one document per line, also where a text has line breaks", () => {
  const lines = ndjson({ labels: ["a"] }, [{ text: "x\ny" }]).join("").split("\n");
  assert.deepEqual(lines.filter(Boolean).map((line) => JSON.parse(line)), [{ labels: ["a"] }, { text: "x\ny" }]);
});

test("events are read however the stream is cut", async () => {
  const stream = 'retry: 1000\n\n: waiting\n\nid: 3\nevent: progress\ndata: {"a":1}\n\nid: 4\r\nevent: terminal\r\ndata: x\r\ndata: y\r\n\r\n';
  for (const size of [1, 7, 1000]) {
    const chunks = (async function* () { for (let i = 0; i < stream.length; i += size) yield stream.slice(i, i + size); })();
    const found = [];
    for await (const event of eventsOf(chunks)) found.push(event);
    assert.deepEqual(found, [{ event: "progress", id: "3", data: '{"a":1}' }, { event: "terminal", id: "4", data: "x\ny" }]);
  }
});

test("a hash names a page, an id and a query; a broken one names no id", () => {
  assert.deepEqual([parse("#/jobs/job_1?status=failed").id, parse("#/jobs/job_1?status=failed").query.get("status")], ["job_1", "failed"]);
  assert.equal(parse("").name, "extract");
  assert.equal(parse("#/jobs/%E0%A4%A").id, "");
  assert.equal(parse(to("jobs", "a/b?c")).id, "a/b?c");
});

test("the newest jobs push none out of the list that is loaded", () => {
  const job = (n) => ({ id: `job_${n}`, created_at: `2026-03-01T09:00:0${n}.000Z` });
  const ids = (jobs) => jobs.map((each) => each.id.at(-1)).join("");
  const loaded = [5, 4, 3, 2, 1].map(job);
  assert.equal(ids(refreshed(loaded, { data: [7, 6, 5].map(job), next_cursor: "x" })), "7654321");
  assert.equal(ids(refreshed(loaded, { data: [5, 3].map(job), next_cursor: "x" })), "5321", "what left the newest page");
  assert.equal(ids(refreshed(loaded, { data: [], next_cursor: "x" })), "54321", "a page may be empty, and yet have a next one");
  assert.equal(ids(refreshed(loaded, { data: [5].map(job), next_cursor: null })), "5");
});

test("numbers are told as people tell them", () => {
  assert.deepEqual([score(0.999), score(1), score(0.5)], [".99", "1.00", ".50"]);
  assert.deepEqual([duration(0.2), duration(3.21), duration(75), duration(600), duration(7200)], ["200 ms", "3.2 s", "75 s", "10 min", "2.0 h"]);
  assert.equal(ago("2026-03-01T09:30:00Z", Date.parse("2026-03-01T09:32:00Z")), "2 min ago");
  assert.equal(bytes(2_500_000), "2.4 MB");
});

test("a plot has its last point at the right, gaps as gaps, and a round top", () => {
  const { paths, last, top } = geometry([1, null, 3, 4]);
  assert.equal(paths.length, 2);
  assert.ok(last.x > 300);
  assert.equal(top, 5);
  assert.deepEqual([niceTop(0), niceTop(11), niceTop(270)], [1, 20, 300]);
  assert.equal(geometry([null]).last, null);
});
