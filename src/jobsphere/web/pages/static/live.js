// Keeps a part of the page as it is on the server: when the job changes, or every few seconds while the page is seen.

const part = document.getElementById("part");
let shown = "";

export async function refresh() {
  const response = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
  if (response.redirected || response.status === 401) {
    location.reload();
    return;
  }
  if (!response.ok) return;
  const text = await response.text();
  if (text === shown) return;
  shown = text;
  replace(text);
}

// What was in focus or opened (or closed) by hand stays so.
const byHand = new Map();

function replace(text) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = part.querySelector(".scroll")?.scrollLeft ?? 0;
  part.innerHTML = text; // rendered and escaped by the server
  for (const [id, open] of byHand) {
    const details = document.getElementById(id);
    if (details) details.open = open;
  }
  const scroll = part.querySelector(".scroll");
  if (scroll) scroll.scrollLeft = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

part?.addEventListener("click", (event) => {
  const details = event.target.closest("summary")?.parentElement;
  if (details?.id) byHand.set(details.id, !details.open); // it opens or closes after the click
});

// A browser has few connections to one server: pages that nobody looks at leave theirs to the others. It connects
// again by itself when a stream breaks, but not after a refusal, which a server that stops or starts answers.
export function whileSeen(open) {
  let source = null;
  let ended = false;
  let wait = 1000;
  const leave = () => {
    source?.close();
    source = null;
  };
  const look = () => {
    if (document.visibilityState !== "visible") leave();
    else if (!source && !ended) begin();
  };
  const begin = () => {
    source = open(() => { ended = true; leave(); });
    source.addEventListener("open", () => { wait = 1000; });
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      leave();
      setTimeout(look, wait);
      wait = Math.min(wait * 2, 60000);
    });
  };
  document.addEventListener("visibilitychange", look);
  look();
}

function watch(url) {
  whileSeen((end) => {
    const source = new EventSource(url);
    source.addEventListener("message", () => refresh().catch(() => {}));
    source.addEventListener("end", end);
    source.addEventListener("failed", () => { end(); refresh().catch(() => {}); });
    return source;
  });
}

function every(seconds) {
  const look = () => {
    if (document.visibilityState === "visible") refresh().catch(() => {});
  };
  setInterval(look, seconds * 1000);
  document.addEventListener("visibilitychange", look);
}

function lasting(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const parts = [];
  let left = Math.max(0, Math.floor(seconds));
  for (const [size, unit] of units) {
    if (left >= size) parts.push(`${Math.floor(left / size)} ${unit}`);
    left %= size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

setInterval(() => {
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = lasting((Date.now() - Date.parse(element.dataset.since)) / 1000);
  }
}, 1000);

if (part?.dataset.watch) watch(part.dataset.watch);
if (part?.dataset.every) every(Number(part.dataset.every));
