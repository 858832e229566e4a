// Asks the server, and shows what it answers.
const by = (id) => document.getElementById(id);
const added = new Set();

function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const token = by("token").value;
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  if (answer.status === 401) by("token-field").hidden = false;
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

// Choosing

async function list() {
  try {
    const { adapters } = await ask("/v1/adapters");
    const chosen = new Set(names());
    const known = adapters.map((one) => one.name);
    const others = [...added].filter((name) => !known.includes(name)).map((name) => ({ name }));
    const first = chosen.size === 0 ? 2 : 0;
    by("adapters").replaceChildren(...[...adapters, ...others].map((one, place) => item(one, chosen.has(one.name) || place < first)));
    if (!by("adapters").children.length) by("adapters").append(node("li", { className: "soft" }, "None yet: add one by its name."));
    filter();
  } catch (error) {
    by("said").textContent = error.message;
  }
}

function item(one, checked) {
  const box = node("input", { type: "checkbox", name: "adapter", value: one.name, checked });
  const label = node("label", { className: "choice" }, box, node("span", { className: "name" }, one.name));
  if (one.state === "failed") label.append(node("span", { className: "tag bad", title: one.error }, "broken"));
  else if (one.task) label.append(node("span", { className: "tag" }, one.task.replaceAll("-", " ")));
  return node("li", {}, label);
}

const names = () => [...document.querySelectorAll("[name=adapter]:checked")].map((box) => box.value);

function filter() {
  const wanted = by("filter").value.toLowerCase();
  for (const one of by("adapters").children) one.hidden = !one.textContent.toLowerCase().includes(wanted);
}

function add() {
  const name = by("name").value.trim();
  if (!name || added.has(name)) return;
  added.add(name);
  by("adapters").append(item({ name }, true));
  by("name").value = "";
}

// Asking

async function compare(event) {
  event.preventDefault();
  add();
  const chosen = names();
  by("said").textContent = chosen.length ? "" : "Choose an adapter first.";
  by("answers-title").hidden = !chosen.length;
  const cards = chosen.map((name) => node("article", { className: "answer", ariaBusy: "true" }, node("h3", {}, name)));
  by("answers").replaceChildren(...cards);
  const done = await Promise.all(chosen.map((name, place) => show(name, cards[place])));
  if (chosen.length) by("said").textContent = `${done.filter(Boolean).length} of ${chosen.length} answered.`;
  list();
}

async function show(name, card) {
  try {
    const parts = name.split(">").map((part) => part.trim());
    let task;
    for (const part of parts) ({ task } = await ask("/v1/adapters", { name: part }));
    const text = by("text").value;
    const second = by("second").value.trim();
    const pair = second && task !== "tagging" ? { text, text_pair: second } : text;
    const input = task === "question-answering" ? { question: second, context: text } : pair;
    const begun = performance.now();
    const { results } = await ask("/v1/predict", { inputs: [input], adapter: parts.length > 1 ? { stack: parts } : name });
    const took = `${Math.round(performance.now() - begun)} ms`;
    const facts = [results[0].task.replaceAll("-", " "), Object.values(results[0].versions).at(-1)?.slice(0, 7), took];
    card.append(node("p", { className: "fine soft" }, ...facts.filter(Boolean).map((one) => node("span", {}, one))));
    card.append(...drawn(results[0].task, results[0].outputs[0], text));
    return true;
  } catch (error) {
    card.append(node("p", { className: "problem" }, error.message));
    return false;
  } finally {
    card.ariaBusy = "false";
  }
}

// Showing

function drawn(task, output, text) {
  const parts = [];
  if (output.label !== undefined) parts.push(node("p", { className: "result" }, output.label));
  if (output.labels) parts.push(node("p", { className: "result" }, output.labels.join(", ") || "none of these"));
  if (output.value !== undefined) parts.push(node("p", { className: "result" }, output.value.toFixed(3)));
  if (output.similarity !== undefined) parts.push(node("p", { className: "result" }, output.similarity.toFixed(3)), node("p", { className: "soft" }, "cosine of the two texts"));
  if (output.scores) parts.push(bars(output.scores.map((one) => [one.label, one.score])));
  if (task === "question-answering") parts.push(...found(output.spans, text));
  else if (output.spans) parts.push(marked(output.spans, text));
  for (const gap of output.gaps ?? []) parts.push(bars(gap.map((one) => [one.token, one.score])));
  if (output.embedding) parts.push(vector(output.embedding));
  if (output.truncated) parts.push(node("p", { className: "note" }, "The text is too long: its end was not read."));
  return parts;
}

function bars(scores) {
  return node("ol", { className: "bars" }, ...scores.map(([label, score]) => {
    const fill = node("div", { className: "fill" });
    fill.style.width = `${100 * score}%`;
    const track = node("div", { className: "track" }, fill);
    track.setAttribute("aria-hidden", "true");
    return node("li", {}, node("span", {}, label), node("span", { className: "number" }, `${(100 * score).toFixed(1)} %`), track);
  }));
}

function found(spans, text) {
  if (!spans.length) return [node("p", { className: "result" }, "no answer")];
  return [node("p", { className: "result" }, spans[0].text), marked(spans.slice(0, 1), text), bars(spans.map((one) => [one.text, one.score]))];
}

// Places in a text are counted by characters, and by JavaScript in halves of some of them.
function marked(spans, text) {
  const letters = [...text];
  const parts = [];
  let place = 0;
  for (const span of spans) {
    parts.push(letters.slice(place, span.start).join(""));
    const mark = node("mark", { title: `${(100 * span.score).toFixed(1)} %` }, letters.slice(span.start, span.end).join(""));
    if (span.label) mark.append(node("small", {}, span.label));
    parts.push(mark);
    place = span.end;
  }
  parts.push(letters.slice(place).join(""));
  return node("p", { className: "read" }, ...parts);
}

function vector(values) {
  const shown = values.slice(0, 64);
  const largest = Math.max(...shown.map(Math.abs)) || 1;
  const drawing = node("div", { className: "vector", role: "img", ariaLabel: `${values.length} numbers, the first ${shown.length} drawn` });
  for (const value of shown) {
    const bar = node("span", { className: value < 0 ? "below" : "" });
    bar.style.height = `${50 * Math.abs(value) / largest}%`;
    bar.style.transform = `translateY(${value < 0 ? 50 : -50}%)`;
    drawing.append(bar);
  }
  return node("div", {}, drawing, node("p", { className: "fine soft" }, `${values.length} numbers; the first ${shown.length} drawn`));
}

by("ask").addEventListener("submit", compare);
by("add").addEventListener("click", add);
by("name").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); add(); } });
by("filter").addEventListener("input", filter);
by("filter").addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
by("token").addEventListener("change", list);
list();
