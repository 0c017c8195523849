// Circles on an image, shared by the map and the queue: choose, move, resize, draw and answer them.
// A change is shown at once and stored with the answer: by C, or when another circle is chosen.
"use strict";

const COLOURS = { crater: "#ff9a5c", not: "#7fbcf5", unsure: "#e6dcc4", detection: "#ffe14d", candidate: "#7de3d4" };
const HANDLE = 5;  // screen pixels: half the side of a handle
const GRIP = 10;  // screen pixels from which a handle is grasped
const LEAST = 3;  // pixels: smallest diameter
let circles = [];
let fields = [];
let inside = 0;
let chosen = null;
let draft = null;  // x, y, diameter of the chosen circle, as changed
let isDrawing = false;
let areHidden = false;
let least = page.threshold === null ? 0.1 : page.threshold;
let loaded = null;  // the rectangle whose circles are known
let loading = 0;
let whyNow = () => "map";
let onChosen = () => {};
let onSaved = () => {};
let onRefused = () => {};
let onLoaded = () => {};
let secondsNow = () => null;
let moreWanted = () => ({});
let onAnswered = () => {};
let isFieldShown = () => true;

const shapeOf = (circle) => (circle === chosen && draft ? draft : circle);
const isChanged = () => Boolean(chosen && draft && ["x", "y", "diameter"].some((name) => Math.abs(draft[name] - chosen[name]) > 0.05));

function showImage(number) {
  if (image && image.number === number) return;
  image = page.images[number];
  circles = [];
  fields = [];
  loaded = null;
}

// The circles in view and around it, fetched when the view leaves what is known.
function fetchCircles(now = false) {
  if (!image) return;
  const [width, height] = [canvas.clientWidth / view.scale, canvas.clientHeight / view.scale];
  const box = { left: view.col - width / 2, right: view.col + width / 2, top: view.row - height / 2, bottom: view.row + height / 2 };
  const isInside = loaded && loaded.image === image.number && loaded.least === least && loaded.left <= Math.max(0, box.left) && loaded.top <= Math.max(0, box.top) && loaded.right >= Math.min(image.width, box.right) && loaded.bottom >= Math.min(image.height, box.bottom) && !(loaded.isPart && width < loaded.width * 0.7);
  if (isInside && !now) return;
  const wide = {
    image: image.number, least, width, left: Math.max(0, Math.floor(box.left - width / 2)), top: Math.max(0, Math.floor(box.top - height / 2)),
    right: Math.ceil(Math.max(0, box.right + width / 2)), bottom: Math.ceil(Math.max(0, box.bottom + height / 2)),
  };
  if (!now && loading && JSON.stringify(loading) === JSON.stringify(wide)) return;
  loading = wide;
  clearTimeout(fetchCircles.timer);
  fetchCircles.timer = setTimeout(async () => {
    try {
      const reply = await ask(`/circles?image=${wide.image}&left=${wide.left}&top=${wide.top}&right=${wide.right}&bottom=${wide.bottom}&least=${wide.least}`);
      if (loading !== wide || image.number !== wide.image) return;
      loading = 0;
      loaded = { ...wide, isPart: reply.circles.length < reply.inside };
      fields = reply.fields;
      inside = reply.inside;
      merge(reply.circles);
      onLoaded();
      redraw();
    } catch (error) { loading = 0; notice(error.message); }
  }, now ? 0 : 80);
}
viewChanged = () => fetchCircles();

// Take new circles, but keep those that wait for a reply, and the chosen one.
function merge(found) {
  const before = new Map(circles.map((circle) => [circle.id, circle]));
  circles = found.map((circle) => {
    const known = before.get(circle.id);
    return known && (known.isWaiting || known === chosen) ? known : circle;
  });
  for (const circle of before.values()) {
    if ((circle.isWaiting || circle === chosen) && !circles.includes(circle)) circles.push(circle);
  }
}

// What came back with an answer or an undo.
function takeItem(item) {
  if (!item.circle || !image || item.image !== image.number) return null;
  const known = circles.find((circle) => circle.id === item.circle.id);
  if (!known) { circles.push(item.circle); return item.circle; }
  Object.assign(known, item.circle);
  return known;
}

const votesText = (circle) => Object.entries(circle.votes).map(([who, word]) => `${who}: ${WORDS[word]}`).join(", ") || "no answer";

function styleOf(circle) {
  if (circle.answer === "crater") return [COLOURS.crater, []];
  if (circle.answer === "not") return [COLOURS.not, [4, 4]];
  if (circle.answer === "unsure") return [COLOURS.unsure, [1, 3]];
  return circle.detection ? [COLOURS.detection, []] : [COLOURS.candidate, [6, 4]];
}

function ring(x, y, radius, colour, dash, thick) {
  draw.setLineDash(dash);
  for (const [stroke, wide] of [["#000a", thick + 1.75], [colour, thick]]) {
    draw.strokeStyle = stroke;
    draw.lineWidth = wide;
    draw.beginPath();
    draw.arc(x, y, Math.max(radius, 2.5), 0, 2 * Math.PI);
    draw.stroke();
  }
  draw.setLineDash([]);
}

function handles(shape) {
  const [x, y, radius] = [toX(shape.x), toY(shape.y), (shape.diameter / 2) * view.scale];
  return [[x + radius, y], [x - radius, y], [x, y + radius], [x, y - radius]];
}

function paintCircles() {
  for (const field of fields) if (isFieldShown(field)) paintField(field);
  if (areHidden) return;
  for (const circle of circles) {
    if (circle === chosen) continue;
    const [x, y, radius] = [toX(circle.x), toY(circle.y), (circle.diameter / 2) * view.scale];
    if (x + radius < 0 || y + radius < 0 || x - radius > canvas.clientWidth || y - radius > canvas.clientHeight) continue;
    ring(x, y, radius, ...styleOf(circle), 1.75);
    if (circle.disputed) paintDispute(x + radius * 0.71, y - radius * 0.71);
  }
  if (chosen) paintChosen();
}

function paintDispute(x, y) {
  draw.fillStyle = "#c2185b";
  draw.beginPath();
  draw.arc(x, y, 7, 0, 2 * Math.PI);
  draw.fill();
  draw.fillStyle = "#fff";
  draw.font = "700 11px system-ui, sans-serif";
  draw.textAlign = "center";
  draw.textBaseline = "middle";
  draw.fillText("≠", x, y + 0.5);
}

function paintChosen() {
  const shape = shapeOf(chosen);
  const [x, y, radius] = [toX(shape.x), toY(shape.y), (shape.diameter / 2) * view.scale];
  if (isChanged() && !chosen.isNew) ring(toX(chosen.x), toY(chosen.y), (chosen.diameter / 2) * view.scale, "#fff9", [2, 4], 1);
  ring(x, y, radius, "#ffffff", [], 2.5);
  ring(x, y, Math.max(0, radius - 3), ...styleOf(chosen), 1.25);
  draw.lineWidth = 1.5;
  for (const [left, top] of handles(shape)) {
    draw.fillStyle = "#ffffff";
    draw.strokeStyle = "#000";
    draw.fillRect(left - HANDLE, top - HANDLE, 2 * HANDLE, 2 * HANDLE);
    draw.strokeRect(left - HANDLE, top - HANDLE, 2 * HANDLE, 2 * HANDLE);
  }
  for (const [stroke, wide] of [["#000c", 3.5], ["#fff", 1.5]]) {
    draw.strokeStyle = stroke;
    draw.lineWidth = wide;
    draw.beginPath();
    draw.moveTo(x - 5, y); draw.lineTo(x + 5, y);
    draw.moveTo(x, y - 5); draw.lineTo(x, y + 5);
    draw.stroke();
  }
}

function paintField(field) {
  const [x, y] = [toX(field.x - field.width / 2), toY(field.y - field.height / 2)];
  const [width, height] = [field.width * view.scale, field.height * view.scale];
  draw.setLineDash(field.complete ? [] : [10, 6]);
  for (const [stroke, wide] of [["#0008", 3], [field.complete ? "#8ccb9b" : "#ffffffd0", 1.5]]) {
    draw.strokeStyle = stroke;
    draw.lineWidth = wide;
    draw.strokeRect(x, y, width, height);
  }
  draw.setLineDash([]);
}

// Choosing and changing.

function choose(circle, center = false) {
  if (circle === chosen) return;
  if (isChanged()) answer("crater", false);
  drop();
  chosen = circle;
  draft = null;
  if (circle && center) {
    view.row = circle.y;
    view.col = circle.x;
    const wide = circle.diameter * view.scale;
    if (wide < 24) view.scale = 60 / circle.diameter;
    if (wide > canvas.clientHeight) view.scale = canvas.clientHeight / (2 * circle.diameter);
  }
  describe();
  redraw();
}

// Remove a circle that was drawn and not stored.
function drop() {
  if (chosen && chosen.isNew && !chosen.isWaiting) circles = circles.filter((circle) => circle !== chosen);
}

function cancel() {
  if (isDrawing) { setDrawing(false); return; }
  if (chosen && chosen.isNew) { drop(); chosen = null; }
  else if (!isChanged()) chosen = null;
  draft = null;
  describe();
  redraw();
}

function change(by) {
  if (!chosen) return;
  draft = { ...shapeOf(chosen) };
  draft.x = Math.min(Math.max(draft.x + (by.x || 0), 0), image.width);
  draft.y = Math.min(Math.max(draft.y + (by.y || 0), 0), image.height);
  draft.diameter = Math.min(Math.max(draft.diameter + (by.diameter || 0), LEAST), 2 * Math.max(image.width, image.height));
  draft = { x: draft.x, y: draft.y, diameter: draft.diameter };
  describe();
  redraw();
}

const stepOf = () => Math.max(0.5, 0.02 * shapeOf(chosen).diameter);

function describe() {
  const shape = chosen ? shapeOf(chosen) : null;
  canvas.dataset.chosen = chosen ? chosen.id : "";
  if ($("unsaved")) $("unsaved").hidden = !isChanged() && !(chosen && chosen.isNew);
  onChosen(chosen, shape);
}

function setDrawing(on) {
  isDrawing = on;
  $("draw").setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
  if (on) {
    choose(null);
    say("Drawing: press in the middle of a crater and drag to its rim, or press Enter.");
  }
  redraw();
}

function newCircle(x, y, diameter) {
  choose(null);
  chosen = { id: "", x, y, diameter, answer: null, entry: null, probability: null, detection: false, votes: {}, disputed: false, isNew: true };
  draft = null;
  circles.push(chosen);
  describe();
  redraw();
}

// Answers.

function answer(word, isShown = true) {
  if (!chosen) { notice("Choose a circle first: click it, or press L."); return; }
  if (chosen.isWaiting) return;
  if (chosen.isNew && word !== "crater") { cancel(); return; }
  const circle = chosen;
  const { x, y, diameter } = shapeOf(circle);
  const before = { x: circle.x, y: circle.y, diameter: circle.diameter, answer: circle.answer };
  if (isShown) flash(word);
  Object.assign(circle, { answer: word, isWaiting: true }, word === "crater" ? { x, y, diameter } : {});
  draft = null;
  const one = { answer: word, why: whyNow(circle), seconds: secondsNow(), saw_probability: page.sawProbability !== false, knew: circle.entry };
  if (circle.isNew) one.image = image.name; else one.place = circle.id;
  if (word === "crater") one.circle = { x, y, diameter };
  const shown = image.number;
  outbox.push("/answers", { answers: [one], ...moreWanted() }, (reply) => {
    circle.isWaiting = false;
    const [saved] = reply.saved;
    const twin = image.number === shown && circles.find((other) => other !== circle && other.id === saved.circle.id);
    if (twin) circles = circles.filter((other) => other !== twin);
    Object.assign(circle, saved.circle, { isNew: false });
    const text = conflictWords(reply.conflicts);
    if (text) notice(text);
    describe();
    redraw();
    onSaved(circle, reply, word);
  }, () => {
    Object.assign(circle, before, { isWaiting: false });
    if (circle.isNew) circles = circles.filter((other) => other !== circle);
    onRefused(circle);
    describe();
    redraw();
  });
  say(`${WORDS[word]}.`);
  describe();
  redraw();
  onAnswered(circle, word, isShown);
}

function undoLast(shown) {
  if (isChanged() || (chosen && chosen.isNew)) { cancel(); return; }
  outbox.push("/undo", {}, (reply) => {
    if (!reply.undone.length) { notice("Nothing is left to undo."); return; }
    for (const item of reply.undone) {
      const circle = takeItem(item);
      if (circle && circle.kind === "drawn" && !circle.answer && !Object.keys(circle.votes).length) {
        circles = circles.filter((other) => other !== circle);
        if (chosen === circle) chosen = null;
      }
    }
    fetchCircles(true);
    shown(reply.undone);
    describe();
    redraw();
  });
}

// The pointer: a handle or the rim resizes, the inside moves, elsewhere the image is dragged.

let gesture = null;
function grip(event) {
  if (!chosen || areHidden) return null;
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const shape = shapeOf(chosen);
  const from = Math.hypot(x - toX(shape.x), y - toY(shape.y));
  const radius = (shape.diameter / 2) * view.scale;
  if (handles(shape).some(([left, top]) => Math.hypot(x - left, y - top) <= GRIP)) return "resize";
  if (from <= GRIP) return "move";
  if (Math.abs(from - radius) <= 5) return "resize";
  return from < radius ? "move" : null;
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  canvas.focus({ preventScroll: true });
  const [col, row] = pointed(event);
  gesture = { x: event.clientX, y: event.clientY, col, row, moved: 0, kind: isDrawing ? "draw" : grip(event) || "pan" };
  if (isDrawing) newCircle(col, row, LEAST);
  gesture.shape = chosen ? { ...shapeOf(chosen) } : null;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!gesture) {
    canvas.style.cursor = isDrawing ? "crosshair" : { move: "move", resize: "nwse-resize" }[grip(event)] || "";
    return;
  }
  const [across, down] = [event.clientX - gesture.x, event.clientY - gesture.y];
  gesture.moved += Math.abs(across) + Math.abs(down);
  const [col, row] = pointed(event);
  gesture.x = event.clientX;
  gesture.y = event.clientY;
  if (gesture.moved <= 4) return;
  if (gesture.kind === "pan") { pan(-across, -down); return; }
  const shape = gesture.shape;
  draft = draft || { x: shape.x, y: shape.y, diameter: shape.diameter };
  if (gesture.kind === "move") {
    draft.x = Math.min(Math.max(shape.x + col - gesture.col, 0), image.width);
    draft.y = Math.min(Math.max(shape.y + row - gesture.row, 0), image.height);
  } else {
    draft.diameter = Math.max(LEAST, 2 * Math.hypot(col - draft.x, row - draft.y));
  }
  describe();
  redraw();
});
canvas.addEventListener("pointerup", (event) => {
  const done = gesture;
  gesture = null;
  if (!done) return;
  if (done.kind === "draw") {
    if (done.moved <= 4) { draft = { x: done.col, y: done.row, diameter: usualDiameter() }; }
    setDrawingOff();
    answer("crater");
    return;
  }
  if (done.moved <= 4) choose(at(event));
});
canvas.addEventListener("pointercancel", () => { gesture = null; });

function setDrawingOff() {
  isDrawing = false;
  $("draw").setAttribute("aria-pressed", "false");
  canvas.classList.remove("drawing");
}

// A diameter to begin with: the median of those in view, or a tenth of the view.
function usualDiameter() {
  const sizes = circles.filter((circle) => !circle.isNew).map((circle) => circle.diameter).sort((a, b) => a - b);
  return sizes.length ? sizes[Math.floor(sizes.length / 2)] : canvas.clientHeight / view.scale / 10;
}

// The circle at a pointer: the nearest rim within reach, else the smallest circle around it.
function at(event) {
  if (areHidden) return null;
  const [col, row] = pointed(event);
  const reach = 6 / view.scale;
  const near = circles.map((circle) => {
    const from = Math.hypot(circle.x - col, circle.y - row);
    return { circle, rim: Math.abs(from - circle.diameter / 2), isInside: from <= Math.max(circle.diameter / 2, reach) };
  }).filter((one) => one.isInside || one.rim <= reach);
  near.sort((a, b) => (a.rim <= reach ? a.rim : 1e6 + a.circle.diameter) - (b.rim <= reach ? b.rim : 1e6 + b.circle.diameter));
  return near.length ? near[0].circle : null;
}

function inReadingOrder(list) {
  return [...list].sort((a, b) => Math.round(a.y / 40) - Math.round(b.y / 40) || a.x - b.x);
}

function stepThrough(list, by) {
  const order = inReadingOrder(list);
  if (!order.length) return;
  const place = chosen ? order.indexOf(chosen) : -1;
  choose(order[place < 0 ? (by > 0 ? 0 : order.length - 1) : (place + by + order.length) % order.length], true);
}

function hide(on) {
  areHidden = on;
  $("hide").setAttribute("aria-pressed", String(on));
  redraw();
}

function contrast() {
  const on = canvas.classList.toggle("contrast");
  $("contrast").setAttribute("aria-pressed", String(on));
}

const PAN = 80;
const onRange = (event) => event.target.matches("input[type=range]");
function arrow(x, y) {
  return (event) => {
    if (onRange(event)) return false;
    if (!chosen) { pan(x * PAN, y * PAN); return true; }
    const by = stepOf() * (event.shiftKey ? 5 : 1);
    change({ x: x * by, y: y * by });
    return true;
  };
}
function larger(by) {
  return () => { if (chosen) change({ diameter: by * 2 * stepOf() }); else zoom(by > 0 ? 1.6 : 1 / 1.6); };
}
const EDIT_KEYS = {
  ...Object.fromEntries(Object.entries(KEYS).map(([key, word]) => [key, () => answer(word)])),
  a: () => answer("crater"), r: () => answer("not"),
  d: () => setDrawing(!isDrawing), h: () => hide(!areHidden), k: contrast, Escape: cancel,
  ArrowLeft: arrow(-1, 0), ArrowRight: arrow(1, 0), ArrowUp: arrow(0, -1), ArrowDown: arrow(0, 1),
  "+": larger(1), "=": larger(1), "-": larger(-1), _: larger(-1), 0: fit,
};
function placeDrawn() {
  setDrawingOff();
  newCircle(view.col, view.row, usualDiameter());
  say("A circle in the middle: move it by the arrows, resize it by plus and minus, then C.");
}
onAnswers(answer);
$("draw").addEventListener("click", () => setDrawing(!isDrawing));
$("hide").addEventListener("click", () => hide(!areHidden));
$("contrast").addEventListener("click", contrast);
paintOver = paintCircles;
