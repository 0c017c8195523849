// What all views share: talking to the server, keys, notices. No other site is ever asked.
"use strict";

const page = (() => {
  const element = document.getElementById("state");
  return element ? JSON.parse(element.textContent) : {};
})();
const $ = (id) => document.getElementById(id);
const base = page.who ? `/as/${encodeURIComponent(page.who)}` : "";
const WORDS = { crater: "crater", not: "not a crater", unsure: "unsure" };
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
  return `/patches/${page.mark}/${number}.png${around ? "?around=1" : ""}`;
}

async function ask(path) {
  const reply = await fetch(base + path, { headers: { accept: "application/json" } });
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

async function tell(path, content) {
  const reply = await fetch(base + path, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(content),
  });
  const text = await reply.text();
  let found = { error: text };
  try { found = JSON.parse(text); } catch { /* plain words of the door */ }
  if (!reply.ok) {
    const error = new Error(found.error || reply.statusText);
    error.refused = reply.status < 500;
    throw error;
  }
  return found;
}

// Requests that change something go one after another. One that gets no reply is repeated under the
// same key until it does, and the server does it only once.
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
      const one = this.waiting[0];
      try {
        const extra = one.content.more ? one.content.more() : {};
        const { more, ...plain } = one.content;
        const found = await tell(one.path, { ...plain, ...extra });
        this.waiting.shift();
        if (found.counts) $("mine").textContent = found.counts.mine.toLocaleString("en");
        this.show();
        one.done(found);
      } catch (error) {
        if (error.refused) {
          this.waiting.shift();
          this.show();
          notice(`Not saved: ${error.message}`, true);
          if (one.refused) one.refused(error);
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
  const one = conflicts[0];
  const rest = conflicts.length > 1 ? ` And ${conflicts.length - 1} more.` : "";
  const text = one.own
    ? `You had answered “${WORDS[one.answer]}” elsewhere. Both are kept, the later counts.`
    : `${one.reviewer} said “${WORDS[one.answer]}”. Both answers are kept.`;
  return text + rest;
}

// Keys: one table for each view. Nothing is done while someone writes or a dialog is open.
function onKeys(table) {
  document.addEventListener("keydown", (event) => {
    const help = $("help");
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z" && event.key !== "a")) return;
    if (help && help.open) return;
    if (event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.key === "?" && help) { help.showModal(); event.preventDefault(); return; }
    if (event.repeat && KEYS[name]) return;  // a key held down answers once
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

// Where the model is still looking at patches, ask now and then.
(function watchPredictions() {
  const line = $("predicting");
  if (!line || line.hidden) return;
  const look = async () => {
    try {
      const { predicting } = await ask("/progress");
      if (predicting.failure) { line.textContent = `The model could not be used: ${predicting.failure}`; return; }
      if (predicting.done >= predicting.total) { line.hidden = true; return; }
      line.textContent = `Predicting patches: ${predicting.done.toLocaleString("en")} of ${predicting.total.toLocaleString("en")}. The order gets better when it is through.`;
    } catch { /* the next one may come through */ }
    setTimeout(look, 2000);
  };
  setTimeout(look, 1500);
})();
