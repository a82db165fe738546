// Makes the page live: requests it again when the server announces a new version, and changes only what differs.
// Without this file every page is complete but static. Nothing here creates markup of its own.
"use strict";

const root = document.documentElement;
const body = document.body;
root.classList.add("js");

const MIN_PAUSE = 500; // milliseconds between two refreshes
const MAX_AGE = 15000; // of the page while something runs: its sentences contain durations
const skew = Number(body.dataset.now) * 1000 - Date.now(); // of the server's clock

// Durations and ages

function duration(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  if (rest === 0) return "0s";
  let text = "";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) text += count + unit;
  }
  return text;
}

function ago(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)}${unit} ago`;
  }
  return `${Math.max(0, Math.floor(seconds))}s ago`;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let ticking;
let refreshed = 0;
function tick() {
  clearTimeout(ticking);
  if (document.hidden) return;
  const now = (Date.now() + skew) / 1000;
  for (const one of document.querySelectorAll("[data-since]")) say(one, duration(now - one.dataset.since));
  let youngest = Infinity;
  for (const one of document.querySelectorAll("[data-ago]")) {
    youngest = Math.min(youngest, now - one.dataset.ago);
    say(one, ago(now - one.dataset.ago));
  }
  const grid = document.querySelector("[data-from]");
  if (grid) {
    const { from, to } = grid.dataset;
    for (const bar of grid.querySelectorAll("[data-grow]")) {
      const width = ((Math.min(now, to) - bar.dataset.grow) / (to - from)) * 100;
      bar.setAttribute("width", `${Math.max(0, width).toFixed(3)}%`);
    }
    if (now > to && grid.querySelector("[data-grow]")) refresh();
  }
  const moves = document.querySelector("[data-since], [data-grow]");
  if (moves && performance.now() - refreshed > MAX_AGE) refresh();
  if (moves || youngest < Infinity) ticking = setTimeout(tick, moves || youngest < 60 ? 1000 : 30000);
}

// Change only what differs: focus, selection and scroll positions stay

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep") || old.matches("dialog[open]") || old.isEqualNode(fresh)) return;
  if (old.matches("tbody.chunk") && fresh.matches(".pending")) {
    if (!old.matches(".pending")) old.dataset.stale = "";
    if (old.dataset.rows === fresh.dataset.rows) return;
  }
  const kept = old.matches("details") ? "open" : ""; // whoever reads has opened it
  for (const { name } of [...old.attributes]) if (name !== kept && !fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (name !== kept && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let position = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    let match = position;
    if (child.id) match = old.querySelector(`:scope > #${CSS.escape(child.id)}`);
    if (match && same(match, child)) {
      if (match !== position) old.insertBefore(match, position);
      else position = position.nextSibling;
      morph(match, child);
    } else {
      old.insertBefore(child, position);
    }
  }
  while (position) {
    const next = position.nextSibling;
    if (!position.matches?.("dialog[open]")) position.remove();
    position = next;
  }
}

// Refreshing the page

let pending = false;
let busy = false;
let skipPause;

async function refresh(soon) {
  pending = true;
  if (soon) skipPause?.();
  if (busy || document.hidden) return;
  busy = true;
  try {
    while (pending && !document.hidden) {
      pending = false;
      const begun = performance.now();
      // The page may be older than the announced version: the server rests after reading something large.
      pending ||= (await load(address(seen()))) && announced !== undefined && announced !== body.dataset.version;
      const pause = Math.max(MIN_PAUSE, 20 * (performance.now() - begun));
      await new Promise((done) => {
        skipPause = done;
        setTimeout(done, pause);
      });
    }
  } finally {
    busy = false;
  }
}

function address(chunks) {
  const url = new URL(location.href);
  if (chunks !== null) url.searchParams.set("chunks", chunks.join(","));
  const log = document.querySelector("pre[data-run]");
  if (log) url.searchParams.set("log", log.dataset.run); // what is on screen need not come again
  return url;
}

let asked = 0;

async function load(url) {
  const mine = ++asked;
  let answer;
  let text;
  try {
    answer = await fetch(url, { credentials: "same-origin" });
    text = await answer.text();
  } catch {
    return false; // the stream reports a lost connection
  }
  if (mine !== asked || (!answer.ok && answer.status !== 404)) return false;
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (!fresh.getElementById("main")) return false;
  for (const id of ["manager", "main"]) morph(document.getElementById(id), fresh.getElementById(id));
  document.title = fresh.title;
  const events = body.dataset.events !== fresh.body.dataset.events;
  body.dataset.version = fresh.body.dataset.version;
  body.dataset.events = fresh.body.dataset.events;
  refreshed = performance.now();
  watchChunks();
  watchLog();
  document.dispatchEvent(new Event("refreshed"));
  if (events) listen();
  tick();
  return true;
}

// Rows out of view are requested when they come near

const near = new Set();
const nearby = new IntersectionObserver(
  (entries) => {
    let missing = false;
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) near.add(target);
      else near.delete(target);
      missing ||= isIntersecting && target.matches(".pending, [data-stale]");
    }
    if (missing) refresh(true);
  },
  { rootMargin: "800px 0px" },
);
const observed = new WeakSet();

function watchChunks() {
  for (const chunk of document.querySelectorAll("tbody.chunk")) {
    const height = chunk.matches(".pending") ? `calc(${chunk.dataset.rows} * var(--row))` : "";
    if (chunk.style.height !== height) chunk.style.height = height;
    if (observed.has(chunk)) continue;
    observed.add(chunk);
    nearby.observe(chunk);
  }
}

function seen() {
  const chunks = document.querySelectorAll("tbody.chunk");
  if (!chunks.length) return null;
  const found = [...near].filter((chunk) => chunk.isConnected);
  for (const chunk of found) delete chunk.dataset.stale;
  return found.length ? found.map((chunk) => Number(chunk.id.slice(1))) : [0];
}

// The stream of versions

let stream;
let silence;
let announced; // the newest version that the server has announced

function listen() {
  stream?.close();
  stream = undefined;
  announced = undefined;
  if (document.hidden || !body.dataset.events) return;
  const url = new URL(body.dataset.events, location.href);
  const log = document.querySelector("pre[data-follow]");
  if (log) {
    url.searchParams.set("run", log.dataset.run);
    url.searchParams.set("from", log.dataset.end);
  }
  stream = new EventSource(url);
  stream.onopen = () => connected(true);
  stream.onerror = () => {
    connected(false);
    if (stream?.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
  };
  stream.onmessage = ({ data }) => {
    announced = data;
    if (data !== body.dataset.version) refresh();
  };
  stream.addEventListener("log", ({ data }) => printed(JSON.parse(data)));
}

function connected(yes) {
  clearTimeout(silence);
  const sign = document.getElementById("live");
  if (yes) say(sign, "");
  else silence = setTimeout(() => say(sign, "not live: the server does not respond"), 2000);
}

// Search while typing

function watchFilter() {
  let waiting;
  document.addEventListener("input", ({ target }) => {
    if (target.id !== "q") return;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const url = new URL(location.href);
      url.searchParams.delete("page");
      if (target.value) url.searchParams.set("q", target.value);
      else url.searchParams.delete("q");
      history.replaceState(null, "", url);
      load(url);
    }, 200);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const field = document.getElementById("q");
    if (!field) return;
    event.preventDefault();
    field.focus();
  });
}

document.addEventListener("visibilitychange", () => {
  listen();
  if (!document.hidden) tick();
});
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", ({ persisted }) => persisted && listen());

watchChunks();
watchLog();
watchFilter();
listen();
tick();
