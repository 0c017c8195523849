// Queue: one patch at a time. The next patches are fetched in advance, so that a key press shows
// the next one at once, while the answer is being stored.
"use strict";

let current = null;
let ahead = [];
let shownAt = 0;
let saw = false;
let around = false;
const skipped = [];
const unsent = new Set();
const pictures = new Map();
const TRAIL = 8;
const AHEAD = 4;
const WHY = {
  random: "part of the random sample", uncertain: "the model is uncertain", diverse: "unlike those before",
  suspected: "the model contradicts its label", disputed: "reviewers disagree", grid: "grid", map: "map", chosen: "chosen by you",
};

function fetchPicture(card) {
  if (pictures.has(card.number)) return;
  const image = new Image();
  image.src = picture(card.number);
  pictures.set(card.number, image);
  if (pictures.size > 60) pictures.delete(pictures.keys().next().value);
}

function showCard(card, pressed = 0) {
  current = card;
  $("empty").hidden = Boolean(card);
  $("patch").hidden = !card;
  $("revealed").hidden = true;
  $("reveal").setAttribute("aria-pressed", "false");
  saw = false;
  setAround(false);
  if (!card) { $("fact-id").textContent = "–"; say("No patches left to label."); return; }
  const image = $("patch");
  image.src = picture(card.number);
  image.alt = `Patch ${card.id}, ${card.side} by ${card.side} pixels`;
  shownAt = performance.now();
  if (pressed) {
    const from = pressed;
    image.decode().catch(() => {}).then(() => requestAnimationFrame(() => {
      performance.measure("key to patch", { start: from, end: performance.now() });
    }));
  }
  $("fact-id").textContent = card.id;
  fact("image", card.image);
  fact("place", card.lon === undefined || card.lon === null ? null : where(card));
  fact("own", card.answer ? WORDS[card.answer] : null);
  ahead.forEach(fetchPicture);
}

function fact(name, text) {
  const row = $(`row-${name}`);
  row.hidden = !text;
  $(`fact-${name}`).textContent = text || "";
}

function known() {
  const ids = ahead.map((card) => card.id);
  if (current) ids.push(current.id);
  return [...ids, ...skipped, ...unsent].slice(-1000);
}

function take(cards) {
  const have = new Set(known());
  for (const card of cards) {
    if (!have.has(card.id)) { ahead.push(card); have.add(card.id); fetchPicture(card); }
  }
  if (!current && ahead.length) showCard(ahead.shift());
}

function answer(word) {
  if (!current) return;
  const pressed = performance.now();
  const card = current;
  const seconds = Math.round(pressed - shownAt) / 1000;
  flash(word);
  unsent.add(card.id);
  outbox.push("/answers", {
    answers: [{ patch: card.id, answer: word, why: card.why, seconds, saw_probability: saw, knew: card.entry }],
    show: page.show,
    more: () => ({ skip: known(), want: Math.max(0, AHEAD - ahead.length) }),
  }, (reply) => {
    unsent.delete(card.id);
    trail(card, word);
    const text = conflictWords(reply.conflicts);
    if (text) notice(text);
    take(reply.next);
  }, () => {
    unsent.delete(card.id);
    if (current) ahead.unshift(current);
    showCard(card);
  });
  showCard(ahead.shift() || null, pressed);
  say(`${WORDS[word]}.${current ? ` Next: ${current.id}.` : ""}`);
}

function undo() {
  outbox.push("/undo", {}, (reply) => {
    if (!reply.patches.length) { notice("Nothing is left to undo."); return; }
    const card = reply.patches[0];
    if (current) ahead.unshift(current);
    ahead = ahead.filter((other) => other.id !== card.id);
    showCard(card);
    untrail(reply.patches.map((patch) => patch.id));
    say(`Undone: ${reply.patches.length === 1 ? card.id : `${reply.patches.length} answers`}.`);
  });
}

async function next() {
  if (!current) return;
  skipped.push(current.id);
  showCard(ahead.shift() || null);
  say(current ? `Skipped. Next: ${current.id}.` : "Skipped.");
  try {
    const reply = await post("/next", { skip: known(), want: Math.max(0, AHEAD - ahead.length), show: page.show });
    take(reply.next);
  } catch (error) { notice(error.message); }
}

function trail(card, word) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const image = document.createElement("img");
  const badge = document.createElement("span");
  item.dataset.id = card.id;
  link.href = `${base}/queue?patch=${encodeURIComponent(card.id)}`;
  link.setAttribute("aria-label", `${card.id}: ${WORDS[word]}`);
  image.src = picture(card.number);
  image.alt = "";
  badge.className = `badge ${word}`;
  badge.textContent = word[0].toUpperCase();
  link.append(image, badge);
  item.append(link);
  $("trail").prepend(item);
  while ($("trail").children.length > TRAIL) $("trail").lastChild.remove();
  $("trail-empty").hidden = true;
}

function untrail(ids) {
  for (const item of [...$("trail").children]) if (ids.includes(item.dataset.id)) item.remove();
  $("trail-empty").hidden = $("trail").children.length > 0;
}

async function reveal() {
  if (!current) return;
  const on = $("reveal").getAttribute("aria-pressed") !== "true";
  $("reveal").setAttribute("aria-pressed", String(on));
  $("revealed").hidden = !on;
  if (!on) return;
  saw = true;
  const card = current;
  try {
    const reply = await ask(`/details?patch=${encodeURIComponent(card.id)}`);
    if (current !== card) return;
    $("fact-p").textContent = reply.probability === null ? "not known yet" : reply.probability.toFixed(3);
    $("fact-given").textContent = reply.given || "unlabeled";
    $("fact-why").textContent = WHY[card.why] || card.why;
    const votes = Object.entries(reply.votes).filter(([who]) => who !== page.who);
    $("fact-votes").textContent = votes.length ? votes.map(([who, word]) => `${who}: ${WORDS[word]}`).join(", ") : "no answer";
    say(`Probability ${$("fact-p").textContent}.`);
  } catch (error) { notice(error.message); }
}

function toggle(id, name) {
  const on = $("figure").classList.toggle(name);
  $(id).setAttribute("aria-pressed", String(on));
}

function setAround(on) {
  around = on;
  if (!$("around")) return;
  $("around").setAttribute("aria-pressed", String(on));
  $("frame").hidden = !on;
  if (current) $("patch").src = picture(current.number, on);
}

onAnswers(answer);
$("undo").addEventListener("click", undo);
$("next").addEventListener("click", next);
$("zoom").addEventListener("click", () => toggle("zoom", "large"));
$("contrast").addEventListener("click", () => toggle("contrast", "contrast"));
$("reveal").addEventListener("click", reveal);
if ($("around")) $("around").addEventListener("click", () => setAround(!around));
onKeys({
  ...Object.fromEntries(Object.entries(KEYS).map(([key, word]) => [key, () => answer(word)])),
  Backspace: undo, "Ctrl+z": undo, ArrowRight: next,
  z: () => toggle("zoom", "large"), k: () => toggle("contrast", "contrast"), p: reveal,
  s: () => { if ($("around")) setAround(!around); },
});
ahead = page.cards.slice(1);
showCard(page.cards[0] || null);
