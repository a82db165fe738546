// Lets buttons act: each calls the HTTP API, as any other client would, and says what came of it. Needs page.js.
"use strict";

const API = `${body.dataset.base}/api/v1`;
const ROLES = ["viewer", "submitter", "operator", "admin"]; // each may do what those before it may
const GIVE_UP = 30000; // milliseconds without an answer

// The token is kept in sessionStorage, which belongs to this window and to scheme, host and port. A cookie would not do:
// cookies are shared by all ports of a host, so the server of another user of the same machine would receive it.
const STORED = "air-executor-token";
let session = readSession();

function readSession() {
  try {
    const found = JSON.parse(sessionStorage.getItem(STORED));
    return typeof found?.token === "string" && ROLES.includes(found.role) ? found : null;
  } catch {
    return null;
  }
}

function setSession(found) {
  session = found;
  try {
    if (found) sessionStorage.setItem(STORED, JSON.stringify(found));
    else sessionStorage.removeItem(STORED);
  } catch {
    // a browser that stores nothing: it holds for this page
  }
  showCaller();
}

function caller() {
  if (session) return session;
  return body.dataset.caller ? { name: body.dataset.caller, role: body.dataset.role } : null;
}

function showCaller() {
  const who = caller();
  document.getElementById("who").hidden = false;
  say(document.getElementById("caller"), who ? `${who.name} (${who.role})` : "");
  document.getElementById("to-sign-in").hidden = Boolean(session);
  document.getElementById("sign-out").hidden = !session;
  for (const button of document.querySelectorAll("[data-act]")) {
    const why = who ? whyNot(button, who) : "";
    if (why) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
    button.title = why || button.dataset.command;
  }
}

// Why this caller cannot do it, as far as the page can tell; the API decides.
function whyNot({ dataset }, who) {
  if (ROLES.indexOf(who.role) < ROLES.indexOf(dataset.role)) {
    return `This takes the role ${dataset.role}; your token has the role ${who.role}.`;
  }
  if (who.role !== "submitter" || dataset.owner === undefined || dataset.owner === who.name) return "";
  const whose = dataset.owner ? `belongs to ${dataset.owner}` : "was not submitted over HTTP";
  return `The job ${whose}; a submitter changes only jobs of its own.`;
}

async function call(method, path, data, token) {
  const headers = {};
  if (data !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`; // else the browser sends the password that it knows
  const answer = await fetch(API + path, {
    method,
    headers,
    body: data === undefined ? undefined : JSON.stringify(data),
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(GIVE_UP),
  });
  let found = {};
  try {
    found = await answer.json();
  } catch {
    // not what the API answers; its status says enough
  }
  return { status: answer.status, ok: answer.ok, data: found };
}

// What happened

function tell(text, isBad, link) {
  const said = document.getElementById("said");
  const words = document.createElement("p");
  words.textContent = text;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = `${body.dataset.base}/jobs/${encodeURIComponent(link)}`;
    anchor.textContent = `Open ${link}`;
    words.append(" ", anchor);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => said.replaceChildren());
  said.classList.toggle("bad", Boolean(isBad));
  said.replaceChildren(words, close);
}

function outcome(label, { status, ok, data }) {
  if (!ok) return `${label}: ${typeof data.detail === "string" ? data.detail : `the server answers ${status}`}`;
  if (status === 202) return `${label}: stored; it takes effect when a manager applies it.`;
  return status === 201 ? `${data.id} is submitted.` : `${label}: applied.`;
}

// Doing it

let sending = false;

async function act(button, given, dialog) {
  if (sending) return;
  sending = true;
  const label = button.textContent.replace("…", "").trim();
  const refusal = dialog?.querySelector(".refusal");
  try {
    if (refusal) say(refusal, "");
    const found = await call("POST", button.dataset.path, { ...JSON.parse(button.dataset.body), ...given }, session?.token);
    if (found.status === 401 && session) setSession(null);
    if (!found.ok && refusal) {
      say(refusal, outcome(label, found));
      return;
    }
    dialog?.close();
    tell(outcome(label, found), !found.ok, found.status === 201 ? found.data.id : "");
    refresh(true);
  } catch {
    const lost = `${label}: the server does not respond, so it is not known whether it has happened`;
    if (refusal) say(refusal, lost);
    else tell(lost, true);
  } finally {
    sending = false;
  }
}

function press(button) {
  const who = caller();
  if (!who) {
    askForToken(button);
    return;
  }
  const why = whyNot(button, who);
  if (why) {
    tell(why, true);
    return;
  }
  const dialog = document.getElementById(button.dataset.asks ?? "");
  if (!dialog) {
    act(button, {});
    return;
  }
  say(dialog.querySelector(".refusal"), "");
  showCommand(dialog);
  dialog.showModal();
}

// The form of an action: what is given goes into the body of the call, and onto the command line

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

function read(dialog) {
  const data = {};
  const words = [];
  for (const one of dialog.querySelectorAll("[data-option]")) {
    const { name, option, kind, into, pair } = one.dataset;
    if (one.type === "checkbox") {
      if (!one.checked) continue;
      data[name] = true;
      words.push(option);
    } else if (kind === "pairs") {
      for (const line of one.value.split("\n").filter((text) => text.trim())) {
        const at = line.indexOf("=");
        if (at < 1) throw new Error(`${name}: must be NAME=VALUE, got ${line}`);
        data[name] = { ...data[name], [line.slice(0, at).trim()]: line.slice(at + 1) };
        words.push(`${option} ${quoted(line.trim())}`);
      }
    } else if (one.value) {
      const value = into === "budget" ? Number(one.value) : one.value;
      if (into) data[into] = { ...data[into], [name]: value };
      else data[name] = value;
      words.push(`${option} ${quoted(pair === undefined ? one.value : `${name}=${one.value}`)}`);
    }
  }
  return { data, words };
}

function showCommand(dialog) {
  const button = document.querySelector(`[data-asks="${CSS.escape(dialog.id)}"]`);
  const code = dialog.querySelector(".equivalent code");
  if (!button || !code) return;
  try {
    say(code, [button.dataset.command, ...read(dialog).words].join(" "));
  } catch {
    // half typed
  }
}

// Signing in

let afterwards = null;

function askForToken(button) {
  afterwards = button?.parentElement.id ?? null;
  const why = button
    ? `This takes a token with the role ${button.dataset.role}, or one that may do more.`
    : "Reading is open here; changes take a token.";
  const dialog = document.getElementById("sign-in");
  say(document.getElementById("sign-in-why"), why);
  say(dialog.querySelector(".refusal"), "");
  dialog.showModal();
}

async function signIn(dialog) {
  const field = document.getElementById("token");
  const refusal = dialog.querySelector(".refusal");
  const token = field.value.trim();
  if (sending || !token) return;
  sending = true;
  try {
    // A header takes no other characters, and no token has any.
    const found = /^[\x21-\x7e]+$/.test(token) ? await call("GET", "/caller", undefined, token) : { status: 401 };
    if (!found.ok) {
      say(refusal, found.status === 401 ? "The server does not know this token, or it has expired." : outcome("Sign in", found));
      return;
    }
    field.value = "";
    dialog.close();
    setSession({ token, name: String(found.data.name), role: String(found.data.role) });
    tell(`Signed in as ${found.data.name} (${found.data.role}).`);
  } catch {
    say(refusal, "The server does not respond.");
    return;
  } finally {
    sending = false;
  }
  const button = afterwards && document.querySelector(`#${CSS.escape(afterwards)} > [data-act]`);
  if (button) press(button);
}

// Copying

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code); // no secure context, or not allowed: it can be copied by hand
    return;
  }
  say(button, "Copied");
  setTimeout(() => say(button, "Copy"), 1500);
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("button");
  if (!button) return;
  if (button.dataset.act) press(button);
  else if (button.matches(".copy")) copy(button);
  else if (button.matches("dialog .close")) button.closest("dialog").close();
  else if (button.id === "to-sign-in") askForToken(null);
  else if (button.id === "sign-out") {
    setSession(null);
    tell("Signed out.");
  }
});

document.addEventListener("input", ({ target }) => {
  const dialog = target.closest?.("dialog.asks");
  if (dialog) showCommand(dialog);
});

document.addEventListener("submit", (event) => {
  const dialog = event.target.closest?.("dialog.asks");
  if (!dialog) return;
  event.preventDefault();
  if (dialog.id === "sign-in") {
    signIn(dialog);
    return;
  }
  const button = document.querySelector(`[data-asks="${CSS.escape(dialog.id)}"]`);
  if (!button) {
    say(dialog.querySelector(".refusal"), "This is no longer possible: it has changed meanwhile.");
    return;
  }
  try {
    act(button, read(dialog).data, dialog);
  } catch (error) {
    say(dialog.querySelector(".refusal"), error.message);
  }
});

document.addEventListener("refreshed", showCaller);
showCaller();
