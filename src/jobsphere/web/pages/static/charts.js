// What a job uses, drawn from its own tables of measurements.

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 300; // a chart is about as wide
const KEPT = 20000;
const WIDTH = 300;
const HEIGHT = 80;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toPrecision(3) : Math.round(value)} ${units[unit]}`;
}
const percent = (value) => `${value.toFixed(0)} %`;
const rate = (value) => `${bytes(value)}/s`;

class Chart {
  constructor(root, title, words) {
    this.title = title;
    this.words = words;
    this.series = new Map();
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = title;
    this.now = document.createElement("span");
    this.now.className = "hint";
    caption.append(name, this.now);
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", `${title}: nothing measured yet`);
    this.figure.append(caption, this.svg);
    root.append(this.figure);
  }

  add(series, at, value) {
    if (!Number.isFinite(at) || !Number.isFinite(value)) return;
    if (!this.series.has(series)) this.series.set(series, []);
    const points = this.series.get(series);
    points.push([at, value]);
    if (points.length > KEPT) points.splice(0, points.length - KEPT / 2);
  }

  draw() {
    const series = [...this.series.values()];
    const all = series.flat();
    if (!all.length) return;
    const first = Math.min(...series.map((p) => p[0][0]));
    const last = Math.max(...series.map((p) => p.at(-1)[0]), first + 1000);
    const top = all.reduce((most, [, value]) => Math.max(most, value), 0);
    this.svg.replaceChildren(this.axis(), ...series.map((p, i) => this.line(p, i, first, last, top)));
    const current = series.map((p) => this.words(p.at(-1)[1])).join(", ");
    this.now.textContent = `${current} · most ${this.words(top)}`;
    this.svg.setAttribute("aria-label", `${this.title}: now ${current}, at most ${this.words(top)}`);
  }

  axis() {
    const line = document.createElementNS(SVG, "line");
    for (const [name, value] of Object.entries({ x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1, class: "axis" })) {
      line.setAttribute(name, value);
    }
    return line;
  }

  line(points, number, first, last, top) {
    const line = document.createElementNS(SVG, "polyline");
    const seen = points.length > 1 ? thinned(points) : [points[0], [last, points[0][1]]];
    const places = seen.map(([at, value]) => {
      const x = ((at - first) / (last - first)) * WIDTH;
      return `${x.toFixed(1)},${(HEIGHT - 2 - (value / (top || 1)) * (HEIGHT - 6)).toFixed(1)}`;
    });
    line.setAttribute("points", places.join(" "));
    line.setAttribute("class", `s${number % 4}`);
    return line;
  }
}

// The highest of each few points: a peak must not vanish.
function thinned(points) {
  if (points.length <= POINTS) return points;
  const step = points.length / POINTS;
  const kept = [];
  for (let start = 0; start < points.length; start += step) {
    const few = points.slice(Math.floor(start), Math.max(Math.floor(start + step), Math.floor(start) + 1));
    kept.push(few.reduce((most, point) => (point[1] > most[1] ? point : most)));
  }
  return kept;
}

export class Charts {
  constructor(root, empty) {
    this.root = root;
    this.empty = empty;
    this.charts = new Map();
    this.before = null;
  }

  chart(title, words) {
    if (!this.charts.has(title)) this.charts.set(title, new Chart(this.root, title, words));
    this.empty.hidden = true;
    return this.charts.get(title);
  }

  // time, cpu_percent, mem_bytes, read_bytes, write_bytes, pids
  usage(line) {
    const [time, ...rest] = line.trim().split("\t");
    const at = Date.parse(time);
    if (!Number.isFinite(at)) return;
    const [cpu, memory, read, written, pids] = rest.map(Number);
    this.chart("CPU", percent).add("", at, cpu);
    if (pids > 0) this.chart("Memory", bytes).add("", at, memory); // the last line tells another thing
    if (this.before && at > this.before.at) {
      const seconds = (at - this.before.at) / 1000;
      this.chart("Read from disk", rate).add("", at, Math.max(0, read - this.before.read) / seconds);
      this.chart("Written to disk", rate).add("", at, Math.max(0, written - this.before.written) / seconds);
    }
    this.before = { at, read, written };
  }

  // timestamp, index, name, utilization.gpu, utilization.memory, memory.used, memory.total, temperature.gpu
  gpu(line) {
    const values = line.split(",").map((v) => v.trim());
    const at = Date.parse(values[0].replaceAll("/", "-").replace(" ", "T"));
    if (!Number.isFinite(at)) return;
    this.chart("GPU", percent).add(values[1], at, parseFloat(values[3]));
    this.chart("GPU memory", bytes).add(values[1], at, parseFloat(values[5]) * (1 << 20));
  }

  draw() {
    for (const chart of this.charts.values()) chart.draw();
  }
}
