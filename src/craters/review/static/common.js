// Shared by all views: requests to the server, keyboard shortcuts, notices. Nothing is requested
// from other sites.
"use strict";

const page = (() => {
  const element = document.getElementById("state");
  return element ? JSON.parse(element.textContent) : {};
})();
const $ = (id) => document.getElementById(id);
const root = document.documentElement.dataset.root;
const base = page.who ? `${root}/as/${encodeURIComponent(page.who)}` : "";
const WORDS = { crater: "crater", not: "not a crater", unsure: "unsure", complete: "complete" };
const KEYS = { c: "crater", n: "not", u: "unsure", 1: "crater", 2: "not", 3: "unsure" };

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function say(text) {
  $("said").textContent = text;
}

let noticeTimer = 0;
function notice(text, lasting = false) {
  const box = $("notice");
  clearTimeout(noticeTimer);
  box.textContent = text;
  box.hidden = !text;
  if (text && !lasting) noticeTimer = setTimeout(() => { box.hidden = true; }, 6000);
}

function where(card) {
  const degrees = (value) => value.toFixed(3).replace("-", "−");
  return `lon ${degrees(card.lon)}°, lat ${degrees(card.lat)}°`;
}

function picture(number, around = false) {
  return `${root}/patches/${page.mark}/${number}.png${around ? "?around=1" : ""}`;
}

async function ask(path) {
  const response = await fetch(base + path, { headers: { accept: "application/json" } });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error);
  return reply;
}

async function post(path, content) {
  const response = await fetch(base + path, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(content),
  });
  const text = await response.text();
  let reply = { error: text };
  try { reply = JSON.parse(text); } catch { /* plain text, from the request checks */ }
  if (!response.ok) {
    const error = new Error(reply.error || response.statusText);
    error.refused = response.status < 500;
    throw error;
  }
  return reply;
}

// Requests that change something are sent one after another. A request without a reply is repeated
// with the same key until there is one; the server executes it only once.
const outbox = {
  waiting: [],
  busy: false,
  push(path, content, done, refused) {
    this.waiting.push({ path, content: { ...content, key: newKey() }, done, refused });
    this.show();
    this.run();
  },
  async run() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.length) {
      const request = this.waiting[0];
      try {
        const extra = request.content.more ? request.content.more() : {};
        const { more, ...plain } = request.content;
        const reply = await post(request.path, { ...plain, ...extra });
        this.waiting.shift();
        if (reply.counts) $("mine").textContent = reply.counts.mine.toLocaleString("en");
        this.show();
        request.done(reply);
      } catch (error) {
        if (error.refused) {
          this.waiting.shift();
          this.show();
          notice(`Not saved: ${error.message}`, true);
          if (request.refused) request.refused(error);
        } else {
          notice("Not saved yet: the server does not answer. Trying again; leave this page open.", true);
          await new Promise((wake) => setTimeout(wake, 1000));
          continue;
        }
      }
      if (!this.waiting.length && $("notice").textContent.startsWith("Not saved yet")) notice("");
    }
    this.busy = false;
  },
  show() {
    const count = this.waiting.length;
    $("saved").classList.toggle("waiting", count > 0);
    $("saved-word").textContent = count ? `saved, ${count} on the way` : "saved";
  },
};
window.addEventListener("beforeunload", (event) => {
  if (outbox.waiting.length) event.preventDefault();
});

function conflictWords(conflicts) {
  if (!conflicts.length) return "";
  const first = conflicts[0];
  const rest = conflicts.length > 1 ? ` And ${conflicts.length - 1} more.` : "";
  const text = first.own
    ? `You answered “${WORDS[first.answer]}” elsewhere. Both answers are kept; the later one counts.`
    : first.circle
      ? `${first.reviewer}’s circle is another. Both answers are kept.`
      : `${first.reviewer} answered “${WORDS[first.answer]}”. Both answers are kept.`;
  return text + rest;
}

// Keyboard shortcuts: one table for each view. They are off in text fields and open dialogs.
function onKeys(table) {
  document.addEventListener("keydown", (event) => {
    const help = $("help");
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z" && event.key !== "a")) return;
    if (help && help.open) return;
    if (event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.key === "?" && help) { help.showModal(); event.preventDefault(); return; }
    if (event.repeat && (KEYS[name] || "ar".includes(name))) return;  // a key held down answers once
    const word = event.ctrlKey ? `Ctrl+${name}` : name;
    const act = table[word];
    if (!act) return;
    if ((name === "Enter" || name === " ") && event.target.closest("button, a, summary")) return;
    if (act(event) !== false) event.preventDefault();
  });
  if ($("help-open")) $("help-open").addEventListener("click", () => $("help").showModal());
}

function onAnswers(answer) {
  for (const button of document.querySelectorAll("[data-answer].answer")) {
    button.addEventListener("click", () => answer(button.dataset.answer));
  }
}

function flash(word) {
  const button = document.querySelector(`.answer[data-answer=${word}]`);
  if (!button) return;
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 140);
}

// While patches are being predicted, poll the progress.
(function watchPredictions() {
  const line = $("predicting");
  if (!line || line.hidden) return;
  const poll = async () => {
    try {
      const { predicting } = await ask("/progress");
      if (predicting.failure) { line.textContent = `The model could not be used: ${predicting.failure}`; return; }
      if (predicting.done >= predicting.total) { line.hidden = true; return; }
      line.textContent = `Predicting patches: ${predicting.done.toLocaleString("en")} of ${predicting.total.toLocaleString("en")}. The order improves when this is complete.`;
    } catch { /* try again */ }
    setTimeout(poll, 2000);
  };
  setTimeout(poll, 1500);
})();
