// The log of a run: grows while its task prints, and can be searched, numbered, timed and wrapped. Called by page.js.
"use strict";

const MAX_LOG = 1 << 20; // characters of a log on screen
const MAX_LINES = 20000;
const AT_END = 24; // pixels from the end that still are the end

let shownLog;
let following = false;

function watchLog() {
  const log = document.querySelector("pre[data-run]");
  if (log === shownLog) return;
  shownLog = log;
  if (!log) return;
  const follow = document.getElementById("follow");
  following = Boolean(follow) && !location.hash.startsWith("#L");
  if (follow) follow.checked = following;
  if ("tail" in log.dataset && !location.hash.startsWith("#L")) toEnd(log);
  log.addEventListener(
    "scroll",
    () => {
      const box = document.getElementById("follow");
      following = log.scrollHeight - log.scrollTop - log.clientHeight < AT_END;
      if (box) box.checked = following;
    },
    { passive: true },
  );
  dress(log);
  if (stream) listen();
}

function dress(log) {
  log.classList.toggle("long", !document.getElementById("wrap")?.checked);
  log.classList.toggle("times", Boolean(document.getElementById("times")?.checked));
}

function toEnd(log) {
  log.scrollTop = log.scrollHeight;
}

function paint(parent, parts) {
  for (const [classes, text] of parts) {
    if (!classes) {
      parent.append(text);
      continue;
    }
    const piece = document.createElement("span");
    piece.className = classes;
    piece.textContent = text;
    parent.append(piece);
  }
}

function lineOf(log, parts, time) {
  const line = document.createElement("span");
  line.className = "l";
  const link = document.createElement("a");
  link.className = "n";
  link.tabIndex = -1;
  link.dataset.t = time;
  const number = log.dataset.line;
  if (number) {
    link.id = `L${number}`;
    link.href = `#L${number}`;
    link.dataset.n = number;
    link.setAttribute("aria-label", `Line ${number}`);
    log.dataset.line = Number(number) + 1;
  }
  line.append(link);
  paint(line, parts);
  line.append("\n");
  return line;
}

function printed({ lines, rest, skipped, end }) {
  const log = shownLog;
  if (!log) return;
  const stays = following;
  const last = log.lastElementChild;
  if (skipped > 0) {
    const gap = document.createElement("span");
    gap.className = "gap";
    gap.textContent = `… ${skipped.toLocaleString("en")} bytes left out; download the log to see all of it\n`;
    last.before(gap);
    log.dataset.line = ""; // who knows how many lines that were
  }
  const time = new Date(Date.now() + skew).toISOString().slice(11, 19);
  last.before(...lines.map((parts) => lineOf(log, parts, time)));
  last.replaceChildren();
  paint(last, rest);
  log.dataset.end = end;
  let size = 0;
  let count = 0;
  for (let piece = last.previousElementSibling; piece; ) {
    const before = piece.previousElementSibling;
    size += piece.textContent.length;
    count += 1;
    if (size > MAX_LOG || count > MAX_LINES) piece.remove();
    piece = before;
  }
  if (stays) toEnd(log);
  if (document.getElementById("in-log")?.value) find();
}

// Finding

let hits = [];
let at = -1;

function find() {
  for (const line of document.querySelectorAll(".hit, .here")) line.classList.remove("hit", "here");
  const text = document.getElementById("in-log").value.toLowerCase();
  const lines = text && shownLog ? [...shownLog.querySelectorAll(".l, .rest")] : [];
  hits = lines.filter((line) => line.textContent.toLowerCase().includes(text));
  for (const line of hits) line.classList.add("hit");
  at = Math.min(at, hits.length - 1);
  say(document.getElementById("hits"), text ? `${hits.length.toLocaleString("en")} lines` : "");
}

function step(by) {
  if (!hits.length) return;
  hits[at]?.classList.remove("here");
  at = (at + by + hits.length) % hits.length;
  hits[at].classList.add("here");
  following = false;
  shownLog.scrollTop = hits[at].offsetTop - shownLog.clientHeight / 2;
  say(document.getElementById("hits"), `${at + 1} of ${hits.length.toLocaleString("en")} lines`);
}

document.addEventListener("input", ({ target }) => {
  if (!shownLog) return;
  if (target.id === "follow") {
    following = target.checked;
    if (following) toEnd(shownLog);
  } else if (target.id === "wrap" || target.id === "times") {
    dress(shownLog);
  } else if (target.id === "in-log") {
    at = -1;
    find();
    step(1);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.target.id !== "in-log" || event.key !== "Enter") return;
  event.preventDefault();
  step(event.shiftKey ? -1 : 1);
});
