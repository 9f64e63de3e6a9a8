// The live log: events of the API to lines that can be chosen, searched and followed.

import { Charts } from "./charts.js";
import { whileSeen } from "./live.js";
import { Lines, clean, decode } from "./text.js";

const KEPT = 50000; // lines in memory
const DRAWN = 2000; // lines in the page
const LARGE = 32 << 20; // bytes that are not read unasked

const root = document.getElementById("log");
const view = document.getElementById("lines");
const state = document.getElementById("log-state");
const find = document.getElementById("find");
const follow = document.getElementById("follow");
const shows = Object.fromEntries(["out", "err", "system"].map((k) => [k, document.getElementById(`show-${k}`)]));

let kept = [];
let fresh = [];
let drawing = false;
const charts = new Charts(document.getElementById("charts"), document.getElementById("no-charts"));
const sources = {};
for (const kind of ["out", "err", "system"]) {
  sources[kind] = new Lines((text) => fresh.push({ kind, text: clean(text) }));
}
const tables = {
  ".docker_stats.tsv": new Lines((line) => charts.usage(line)),
  ".gpu_stats.tsv": new Lines((line) => charts.gpu(line)),
};

function wanted(line) {
  const text = find.value.toLowerCase();
  return shows[line.kind].checked && (!text || line.text.toLowerCase().includes(text));
}

function element(line) {
  const row = document.createElement("div");
  row.className = line.kind;
  const text = find.value.toLowerCase();
  const at = text ? line.text.toLowerCase().indexOf(text) : -1;
  if (at < 0) {
    row.textContent = line.text;
  } else {
    const mark = document.createElement("mark");
    mark.textContent = line.text.slice(at, at + text.length);
    row.append(line.text.slice(0, at), mark, line.text.slice(at + text.length));
  }
  return row;
}

function append(lines) {
  const rows = lines.filter(wanted).slice(-DRAWN).map(element);
  if (!rows.length) return;
  view.append(...rows);
  while (view.childElementCount > DRAWN) view.firstElementChild.remove();
  if (follow.checked) view.scrollTop = view.scrollHeight;
}

function draw() {
  drawing = false;
  const lines = fresh;
  fresh = [];
  kept.push(...lines.slice(-KEPT));
  if (kept.length > KEPT) kept = kept.slice(-KEPT);
  append(lines);
  charts.draw();
}

// At once, or when the page is not seen, soon: what is not seen is not drawn sixty times a second.
function soon() {
  if (drawing) return;
  drawing = true;
  if (document.visibilityState === "visible") requestAnimationFrame(draw);
  else setTimeout(draw, 500);
}

function again() {
  view.replaceChildren();
  append(kept);
}

function take(message) {
  if (message.filePath === undefined) {
    sources[message.standardStream === "ERR" ? "err" : "out"].add(decode(message.content));
  } else if (message.filePath === ".system.log") {
    sources.system.add(decode(message.content));
  } else if (message.filePath in tables) {
    tables[message.filePath].add(decode(message.content));
  }
}

let offset = "0"; // where to go on after a pause

function start() {
  whileSeen((end) => {
    const source = new EventSource(`${root.dataset.events}?offset=${offset}`);
    source.addEventListener("open", () => { state.textContent = "live"; });
    source.addEventListener("error", () => { state.textContent = "connecting again…"; });
    source.addEventListener("message", (event) => {
      offset = event.lastEventId;
      for (const message of JSON.parse(event.data).logs) take(message);
      soon();
    });
    source.addEventListener("end", () => { end(); finish("complete"); });
    source.addEventListener("failed", (event) => { end(); finish(JSON.parse(event.data).message); });
    return source;
  });
}

function finish(words) {
  for (const lines of Object.values(sources)) lines.end();
  state.textContent = words;
  soon();
}

function askFirst() {
  const button = document.createElement("button");
  button.textContent = `Show the log (${Math.round(root.dataset.bytes / (1 << 20))} MiB)`;
  button.addEventListener("click", () => { button.remove(); start(); });
  state.textContent = "";
  root.prepend(button);
}

if (root) {
  for (const box of Object.values(shows)) box.addEventListener("change", again);
  find.addEventListener("input", again);
  for (const move of ["wheel", "touchmove", "keyup", "pointerup"]) {
    view.addEventListener(move, () => { follow.checked = view.scrollTop + view.clientHeight >= view.scrollHeight - 40; }, { passive: true });
  }
  follow.addEventListener("change", () => { if (follow.checked) view.scrollTop = view.scrollHeight; });
  if (Number(root.dataset.bytes) > LARGE) askFirst();
  else start();
}
