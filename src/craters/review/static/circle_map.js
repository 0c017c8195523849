// Map of a scan for circles: all circles of an image from a probability on, and all answered ones.
"use strict";

onChosen = (circle, shape) => {
  $("chosen").hidden = !circle;
  $("choose-hint").hidden = Boolean(circle);
  if (!circle) return;
  $("chosen-id").textContent = circle.id || "new";
  $("chosen-size").textContent = `${shape.diameter.toFixed(1)} px`;
  $("chosen-place").textContent = `x ${shape.x.toFixed(1)}, y ${shape.y.toFixed(1)} px`;
  $("chosen-p").textContent = circle.probability === null ? "drawn by a reviewer" : circle.probability.toFixed(3);
  $("chosen-own").textContent = circle.answer ? WORDS[circle.answer] : "–";
  $("chosen-others").textContent = votesText(circle);
  $("open").hidden = !circle.id;
  $("open").href = `${base}/queue?place=${encodeURIComponent(circle.id)}`;
};

onLoaded = () => {
  $("shown").textContent = circles.length.toLocaleString("en");
  $("inside").textContent = inside > circles.length ? ` of ${inside.toLocaleString("en")}, the largest; zoom in for all` : "";
  table();
};

function table() {
  const rows = inReadingOrder(circles).slice(0, 100).map((circle) => {
    const line = document.createElement("tr");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "link";
    button.textContent = `${Math.round(circle.x)}, ${Math.round(circle.y)}`;
    button.addEventListener("click", () => choose(circle, true));
    const parts = [button, circle.diameter.toFixed(1), circle.probability === null ? "–" : circle.probability.toFixed(2), circle.answer ? WORDS[circle.answer] : "–"];
    for (const part of parts) { const cell = document.createElement("td"); cell.append(part); line.append(cell); }
    return line;
  });
  $("table").replaceChildren(...rows);
}

onSaved = table;
function undo() {
  undoLast((items) => {
    const [item] = items;
    if (item.circle && item.image === image.number) choose(circles.find((circle) => circle.id === item.circle.id) || null, true);
    notice("Undone.");
  });
}

let filterTimer = 0;
function filter() {
  $("least-text").textContent = Number($("least").value).toFixed(2);
  clearTimeout(filterTimer);
  filterTimer = setTimeout(() => { least = Number($("least").value); fetchCircles(); }, 150);
}

$("undo").addEventListener("click", undo);
$("least").addEventListener("input", filter);
onKeys({
  ...EDIT_KEYS, Backspace: undo, "Ctrl+z": undo, l: () => stepThrough(circles, 1), j: () => stepThrough(circles, -1),
  Enter: () => { if (isDrawing) placeDrawn(); else if (chosen && chosen.id) location.href = $("open").href; },
});
showImage(page.image);
size();
fit();
describe();
