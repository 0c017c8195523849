// Grid of patches: drag over patches to select them, then give one answer for all of them.
"use strict";

const list = $("cells");
const cells = list ? [...list.children] : [];
let active = cells[0] || null;
let anchor = null;
let sweep = null;

const isOn = (cell) => cell.getAttribute("aria-selected") === "true";
const setOn = (cell, on) => cell.setAttribute("aria-selected", String(on));
const chosen = () => cells.filter(isOn);
const columns = () => {
  if (cells.length < 2) return 1;
  const top = cells[0].offsetTop;
  const next = cells.findIndex((cell) => cell.offsetTop !== top);
  return next < 0 ? cells.length : next;
};

function count() {
  $("selected").firstElementChild.textContent = chosen().length;
}

function focus(cell) {
  if (active) active.tabIndex = -1;
  active = cell;
  cell.tabIndex = 0;
  cell.focus({ preventScroll: false });
}

// All patches in the rectangle spanned by two.
function between(from, to) {
  const wide = columns();
  const [a, b] = [cells.indexOf(from), cells.indexOf(to)];
  const rows = [Math.floor(a / wide), Math.floor(b / wide)].sort((x, y) => x - y);
  const places = [a % wide, b % wide].sort((x, y) => x - y);
  return new Set(cells.filter((_, number) => {
    const [row, place] = [Math.floor(number / wide), number % wide];
    return row >= rows[0] && row <= rows[1] && place >= places[0] && place <= places[1];
  }));
}

function cellAt(event) {
  const element = document.elementFromPoint(event.clientX, event.clientY);
  return element ? element.closest("#cells li") : null;
}

if (list) {
  list.addEventListener("pointerdown", (event) => {
    const cell = event.target.closest("li");
    if (!cell || event.button !== 0) return;
    const adds = event.shiftKey || event.ctrlKey || event.metaKey;
    const single = chosen().length === 1 && isOn(cell);
    sweep = { from: cell, before: new Set(adds ? chosen() : []), on: adds ? !isOn(cell) : !single };
    list.setPointerCapture(event.pointerId);
    focus(cell);
    paint(cell);
    event.preventDefault();
  });
  list.addEventListener("pointermove", (event) => {
    if (!sweep) return;
    const cell = cellAt(event);
    if (cell) paint(cell);
  });
  const end = () => {
    if (sweep) say(`${chosen().length} selected.`);
    sweep = null;
  };
  list.addEventListener("pointerup", end);
  list.addEventListener("pointercancel", end);
  list.addEventListener("focusin", (event) => {
    const cell = event.target.closest("li");
    if (cell) active = cell;
  });
}

function paint(cell) {
  const inside = between(sweep.from, cell);
  for (const each of cells) setOn(each, inside.has(each) ? sweep.on : sweep.before.has(each));
  anchor = sweep.from;
  count();
}

function move(step) {
  return (event) => {
    if (!active) return false;
    const place = cells.indexOf(active) + step();
    if (place < 0 || place >= cells.length) return true;
    const from = active;
    focus(cells[place]);
    if (event.shiftKey) {
      anchor = anchor || from;
      const inside = between(anchor, active);
      cells.forEach((cell) => setOn(cell, inside.has(cell)));
      count();
      say(`${chosen().length} selected.`);
    } else {
      anchor = null;
    }
    return true;
  };
}

function answer(word) {
  const picked = chosen();
  if (!picked.length) { notice("Select patches first: drag over them, or press space."); return; }
  flash(word);
  const before = picked.map((cell) => cell.dataset.answer);
  picked.forEach((cell) => { mark(cell, word); setOn(cell, false); });
  count();
  outbox.push("/answers", {
    answers: picked.map((cell) => ({
      patch: cell.dataset.id, answer: word, why: "grid", saw_probability: false,
      knew: cell.dataset.entry ? Number(cell.dataset.entry) : null,
    })),
  }, (reply) => {
    const entries = new Map(reply.saved.map((entry) => [entry.patch, entry.entry]));
    picked.forEach((cell) => { cell.dataset.entry = entries.get(cell.dataset.id) || ""; });
    const text = conflictWords(reply.conflicts);
    if (text) notice(text);
    say(`${picked.length} answered: ${WORDS[word]}.`);
  }, () => picked.forEach((cell, number) => mark(cell, before[number])));
}

function mark(cell, word) {
  cell.dataset.answer = word || "";
  cell.setAttribute("aria-label", cell.dataset.id + (word ? `, ${WORDS[word]}` : ""));
}

function undo() {
  outbox.push("/undo", {}, (reply) => {
    if (!reply.patches.length) { notice("Nothing is left to undo."); return; }
    const cards = new Map(reply.patches.map((card) => [card.id, card]));
    for (const cell of cells) {
      const card = cards.get(cell.dataset.id);
      if (!card) continue;
      mark(cell, card.answer);
      cell.dataset.entry = card.entry === null ? "" : card.entry;
    }
    notice(`Undone: ${reply.patches.length} answer${reply.patches.length > 1 ? "s" : ""}.`);
  });
}

function select(which) {
  return () => {
    cells.forEach((cell) => setOn(cell, which(cell)));
    count();
    say(`${chosen().length} selected.`);
  };
}

onAnswers(answer);
$("undo").addEventListener("click", undo);
$("order").addEventListener("change", () => $("order").requestSubmit());
onKeys({
  ...Object.fromEntries(Object.entries(KEYS).map(([key, word]) => [key, () => answer(word)])),
  Backspace: undo, "Ctrl+z": undo,
  ArrowRight: move(() => 1), ArrowLeft: move(() => -1),
  ArrowDown: move(columns), ArrowUp: move(() => -columns()),
  " ": () => { if (active) { setOn(active, !isOn(active)); count(); } },
  a: select(() => true), "Ctrl+a": select(() => true), Escape: select(() => false),
  Enter: () => { if (active) location.href = `${base}/queue?patch=${encodeURIComponent(active.dataset.id)}`; },
});
