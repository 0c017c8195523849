// Queue of circles: one circle in its surroundings at a time, or one random field in which all
// craters are corrected. The next items are fetched in advance.
"use strict";

let current = null;
let ahead = [];
let shownAt = 0;
let saw = false;
const skipped = [];
const unsent = new Set();
const sent = new Map();  // cards whose answer is on its way
const AHEAD = 4;
const WHY = {
  random: "a random field", uncertain: "an uncertain detection", missed: "perhaps a crater that was missed",
  disputed: "reviewers disagree", chosen: "chosen by you", map: "map", field: "in a random field",
};

const isField = () => Boolean(current && current.field);
const inField = (circle) => {
  const { x, y, width, height } = current.field;
  return circle.x >= x - width / 2 && circle.x < x + width / 2 && circle.y >= y - height / 2 && circle.y < y + height / 2;
};
isFieldShown = (field) => isField() && field.id === current.id;
const openInField = () => circles.filter((circle) => inField(circle) && !circle.answer && circle.detection);

whyNow = (circle) => (isField() ? "field" : current && current.circle && circle.id === current.id ? current.why : "chosen");
secondsNow = () => Math.round(performance.now() - shownAt) / 1000;
moreWanted = () => ({ show: page.show, more: () => ({ skip: known(), want: Math.max(0, AHEAD - ahead.length) }) });

function known() {
  const ids = ahead.map((card) => card.id);
  if (current) ids.push(current.id);
  return [...ids, ...skipped, ...unsent].slice(-1000);
}

function take(cards) {
  const have = new Set(known());
  for (const card of cards) if (!have.has(card.id)) { ahead.push(card); have.add(card.id); }
  if (!current && ahead.length) showCard(ahead.shift());
}

function showCard(card) {
  draft = null;
  choose(null);
  current = card;
  $("empty").hidden = Boolean(card);
  $("revealed").hidden = true;
  $("reveal").setAttribute("aria-pressed", "false");
  saw = false;
  page.sawProbability = false;
  $("of-field").hidden = !isField();
  $("of-circle").hidden = isField();
  $("complete").hidden = !isField();
  if (!card) { say("Nothing is left to review."); describe(); return; }
  showImage(card.image);
  if (isField()) showField(card); else showCircle(card);
  shownAt = performance.now();
  fact("image", card.name);
  fact("place", card.lon === undefined || card.lon === null ? null : where(card));
  fetchCircles(true);
  redraw();
}

function showCircle(card) {
  view.col = card.circle.x;
  view.row = card.circle.y;
  view.scale = Math.min(Math.max(Math.min(canvas.clientWidth, canvas.clientHeight) / (7 * card.circle.diameter), 0.05), 6);
  choose(takeItem(card));
  say(`A circle of ${card.circle.diameter.toFixed(0)} pixels in ${card.name}.`);
}

function showField(card) {
  const { x, y, width, height, number, of } = card.field;
  view.col = x;
  view.row = y;
  view.scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height) * 0.8;
  $("field-title").textContent = `Random field ${number} of ${of}`;
  say(`Random field ${number} of ${of}: correct all craters in it.`);
}

// Outside the field, the image is darker.
paintOver = () => {
  if (isField()) {
    const { x, y, width, height } = current.field;
    const [left, top] = [toX(x - width / 2), toY(y - height / 2)];
    draw.fillStyle = "#0008";
    draw.beginPath();
    draw.rect(0, 0, canvas.clientWidth, canvas.clientHeight);
    draw.rect(left, top, width * view.scale, height * view.scale);
    draw.fill("evenodd");
  }
  paintCircles();
};

function fact(name, text) {
  $(`row-${name}`).hidden = !text;
  $(`fact-${name}`).textContent = text || "";
}

onChosen = (circle, shape) => {
  fact("size", shape ? `${shape.diameter.toFixed(1)} px` : null);
  fact("own", circle && circle.answer ? WORDS[circle.answer] : null);
  if (isField()) {
    const left = openInField().length;
    $("field-left").textContent = left ? `${left} detection${left > 1 ? "s" : ""} without your answer` : "All detections are answered";
  }
};
onLoaded = () => {
  describe();
  if (isField() && !chosen) stepThroughField(1);
};

function stepThroughField(by) {
  const left = openInField();
  const list = left.length ? left : circles.filter((circle) => inField(circle));
  const order = inReadingOrder(list);
  if (!order.length) return;
  const place = chosen ? order.indexOf(chosen) : -1;
  choose(order[place < 0 ? (by > 0 ? 0 : order.length - 1) : (place + by + order.length) % order.length]);
}

onAnswered = (circle, word, isShown) => {
  if (!current || !isShown) return;
  if (isField()) {
    shownAt = performance.now();
    if (openInField().length) stepThroughField(1);
    return;
  }
  if (circle.id !== current.id) return;
  const card = current;
  unsent.add(card.id);
  sent.set(card.id, card);
  showCard(ahead.shift() || null);
  trail(card, circle, word);
};

onRefused = (circle) => {
  const card = sent.get(circle.id);
  unsent.delete(circle.id);
  sent.delete(circle.id);
  if (!card) return;
  untrail(card.id);
  if (current) ahead.unshift(current);
  showCard(card);
};

onSaved = (circle, reply) => {
  unsent.delete(circle.id);
  sent.delete(circle.id);
  take(reply.next || []);
};

function complete() {
  if (!isField()) return;
  if (isChanged()) answer("crater", false);
  const left = openInField().length;
  if (left) { notice(`${left} detection${left > 1 ? "s have" : " has"} no answer of yours yet: accept, correct or reject each first.`); stepThroughField(1); return; }
  const card = current;
  unsent.add(card.id);
  outbox.push("/answers", {
    answers: [{ place: card.id, answer: "complete", why: "random", seconds: secondsNow(), knew: card.entry }],
    ...moreWanted(),
  }, (reply) => { unsent.delete(card.id); loaded = null; take(reply.next); }, () => {
    unsent.delete(card.id);
    if (current) ahead.unshift(current);
    showCard(card);
  });
  trail(card, null, "complete");
  showCard(ahead.shift() || null);
}

function undo() {
  undoLast((items) => {
    const [item] = items;
    if (current && item.why === "field" && isField() && item.image === current.image) {
      choose(circles.find((circle) => circle.id === item.id) || null);
      untrail(item.id);
      return;
    }
    if (current && current.id !== item.id) ahead.unshift(current);
    ahead = ahead.filter((other) => other.id !== item.id);
    showCard(item);
    untrail(item.id);
    say("Undone.");
  });
}

async function next() {
  if (!current) return;
  if (isChanged()) { answer("crater"); return; }
  skipped.push(current.id);
  showCard(ahead.shift() || null);
  try {
    const reply = await post("/next", { skip: known(), want: Math.max(0, AHEAD - ahead.length), show: page.show });
    take(reply.next);
  } catch (error) { notice(error.message); }
}

function trail(card, circle, word) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const badge = document.createElement("span");
  item.dataset.id = card.id;
  link.href = `${base}/queue?place=${encodeURIComponent(card.id)}`;
  badge.className = `badge ${word === "complete" ? "crater" : word}`;
  badge.textContent = word === "complete" ? "F" : word[0].toUpperCase();
  link.append(badge, circle ? `${circle.diameter.toFixed(0)} px, ${card.name}` : `field, ${card.name}`);
  item.append(link);
  $("trail").prepend(item);
  while ($("trail").children.length > 8) $("trail").lastChild.remove();
  $("trail-empty").hidden = true;
}

function untrail(id) {
  for (const item of [...$("trail").children]) if (item.dataset.id === id) item.remove();
  $("trail-empty").hidden = $("trail").children.length > 0;
}

function reveal() {
  const circle = chosen || (current && current.circle);
  if (!circle) return;
  const on = $("reveal").getAttribute("aria-pressed") !== "true";
  $("reveal").setAttribute("aria-pressed", String(on));
  $("revealed").hidden = !on;
  if (!on) return;
  saw = true;
  page.sawProbability = true;
  $("fact-p").textContent = circle.probability === null ? "drawn by a reviewer" : circle.probability.toFixed(3);
  $("fact-why").textContent = WHY[current.why] || current.why;
  $("fact-votes").textContent = votesText(circle);
  say(`Probability ${$("fact-p").textContent}.`);
}

$("undo").addEventListener("click", undo);
$("next").addEventListener("click", next);
$("complete").addEventListener("click", complete);
$("reveal").addEventListener("click", reveal);
onKeys({
  ...EDIT_KEYS, Backspace: undo, "Ctrl+z": undo, s: next, p: reveal, f: complete,
  l: () => (isField() ? stepThroughField(1) : stepThrough(circles, 1)),
  j: () => (isField() ? stepThroughField(-1) : stepThrough(circles, -1)),
  Enter: () => { if (isDrawing) placeDrawn(); },
  0: () => { if (isField()) showField(current); else if (current) showCircle(current); redraw(); },
});
size();
ahead = page.cards.slice(1);
showCard(page.cards[0] || null);
