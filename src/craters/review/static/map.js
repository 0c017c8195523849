// Map of a scan: its image with its detections drawn over it.
"use strict";

let shown = page.detections;
let chosen = null;

paintOver = () => {
  const colours = { crater: "#ff9a5c", not: "#7fbcf5", unsure: "#e6dcc4", "": "#ffe14d" };
  for (const detection of shown) {
    const width = page.side * view.scale;
    const [x, y] = [toX(detection.col), toY(detection.row)];
    if (x + width < 0 || y + width < 0 || x > canvas.clientWidth || y > canvas.clientHeight) continue;
    const own = detection.answer || "";
    draw.setLineDash(own === "not" ? [4, 3] : own === "unsure" ? [1, 3] : []);
    for (const [stroke, thick] of [["#000c", detection === chosen ? 7 : 3.5], [detection === chosen ? "#ffffff" : colours[own], detection === chosen ? 4 : 1.75]]) {
      draw.strokeStyle = stroke;
      draw.lineWidth = thick;
      if (width < 7) { draw.beginPath(); draw.arc(x + width / 2, y + width / 2, 3, 0, 7); draw.stroke(); } else draw.strokeRect(x, y, width, width);
    }
  }
  draw.setLineDash([]);
};

function choose(detection, center = false) {
  chosen = detection;
  $("chosen").hidden = !detection;
  $("choose-hint").hidden = Boolean(detection);
  if (detection) {
    $("close").src = picture(detection.number, true);
    $("close").alt = `Window ${detection.id} with its surroundings`;
    $("chosen-id").textContent = detection.id;
    $("row-place").hidden = detection.lon === null;
    $("chosen-place").textContent = detection.lon === null ? "" : where(detection);
    $("chosen-p").textContent = detection.probability.toFixed(3);
    $("chosen-own").textContent = detection.answer ? WORDS[detection.answer] : "–";
    $("open").href = `${base}/queue?patch=${encodeURIComponent(detection.id)}`;
    if (center) {
      view.row = detection.row + page.side / 2;
      view.col = detection.col + page.side / 2;
      view.scale = Math.max(view.scale, 1.5);
    }
    say(`${detection.id}, probability ${detection.probability.toFixed(2)}${detection.answer ? `, ${WORDS[detection.answer]}` : ""}.`);
  }
  redraw();
}

function step(by) {
  if (!shown.length) return;
  const place = chosen ? shown.findIndex((detection) => detection.id === chosen.id) : (by > 0 ? -1 : 0);
  choose(shown[(place + by + shown.length) % shown.length], true);
}

function answer(word) {
  if (!chosen) { notice("Choose a detection first: click it, or press L."); return; }
  const detection = chosen;
  const before = detection.answer;
  flash(word);
  detection.answer = word;
  choose(detection);
  outbox.push("/answers", {
    answers: [{ patch: detection.id, answer: word, why: "map", saw_probability: true, knew: detection.entry }],
  }, (reply) => {
    detection.entry = reply.saved[0].entry;
    row(detection);
    const text = conflictWords(reply.conflicts);
    if (text) notice(text);
  }, () => { detection.answer = before; choose(detection); });
}

function row(detection) {
  const line = document.querySelector(`#table tr[data-id="${CSS.escape(detection.id)}"]`);
  if (line) line.lastElementChild.textContent = detection.answer ? WORDS[detection.answer] : "–";
}

function undo() {
  outbox.push("/undo", {}, (reply) => {
    if (!reply.patches.length) { notice("Nothing is left to undo."); return; }
    for (const card of reply.patches) {
      const detection = shown.find((item) => item.id === card.id);
      if (!detection) continue;
      detection.answer = card.answer;
      detection.entry = card.entry;
      row(detection);
      choose(detection);
    }
    notice("Undone.");
  });
}

let filterTimer = 0;
function filter() {
  const least = Number($("least").value);
  const most = Number($("most").value);
  $("least-text").textContent = least.toFixed(2);
  $("most-text").textContent = most.toFixed(2);
  clearTimeout(filterTimer);
  filterTimer = setTimeout(async () => {
    try {
      const reply = await ask(`/map?image=${page.image}&least=${Math.min(least, most)}&most=${Math.max(least, most)}`);
      shown = reply.detections;
      $("shown").textContent = reply.inside.toLocaleString("en");
      const kept = chosen && shown.find((detection) => detection.id === chosen.id);
      choose(kept || null);
      table();
      say(`${reply.inside} detections.`);
    } catch (error) { notice(error.message); }
  }, 120);
}

function table() {
  const rows = shown.slice(0, 100).map((detection) => {
    const line = document.createElement("tr");
    line.dataset.id = detection.id;
    const link = document.createElement("a");
    link.href = `${base}/queue?patch=${encodeURIComponent(detection.id)}`;
    link.textContent = `${detection.row}, ${detection.col}`;
    const parts = [link, detection.probability.toFixed(3), detection.answer ? WORDS[detection.answer] : "–"];
    for (const part of parts) { const cell = document.createElement("td"); cell.append(part); line.append(cell); }
    return line;
  });
  $("table").replaceChildren(...rows);
}

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, moved: 0 };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [across, down] = [event.clientX - drag.x, event.clientY - drag.y];
  drag.moved += Math.abs(across) + Math.abs(down);
  if (drag.moved > 4) pan(-across, -down);
  drag.x = event.clientX;
  drag.y = event.clientY;
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && drag.moved <= 4) {
    const [col, line] = pointed(event);
    const reach = Math.max(page.side / 2, 6 / view.scale);
    const near = shown
      .map((detection) => ({ detection, far: Math.max(Math.abs(detection.col + page.side / 2 - col), Math.abs(detection.row + page.side / 2 - line)) }))
      .filter((item) => item.far <= reach)
      .sort((a, b) => a.far - b.far);
    choose(near.length ? near[0].detection : null);
  }
  drag = null;
});
onAnswers(answer);
$("least").addEventListener("input", filter);
$("most").addEventListener("input", filter);
const STEP = 80;
const onRange = (event) => event.target.matches("input[type=range]");
onKeys({
  ...Object.fromEntries(Object.entries(KEYS).map(([key, word]) => [key, () => answer(word)])),
  Backspace: undo, "Ctrl+z": undo, l: () => step(1), j: () => step(-1),
  ArrowLeft: (event) => (onRange(event) ? false : pan(-STEP, 0)),
  ArrowRight: (event) => (onRange(event) ? false : pan(STEP, 0)),
  ArrowUp: (event) => (onRange(event) ? false : pan(0, -STEP)),
  ArrowDown: (event) => (onRange(event) ? false : pan(0, STEP)),
  "+": () => zoom(1.6), "=": () => zoom(1.6), "-": () => zoom(1 / 1.6), 0: fit,
  Enter: () => { if (chosen) location.href = $("open").href; },
});
image = { number: page.image, height: page.height, width: page.width, deepest: page.deepest };
size();
fit();
