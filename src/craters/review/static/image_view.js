// An image on a canvas: loaded in squares, moved, zoomed, and drawn over. The views set `paintOver`.
"use strict";

const canvas = $("canvas");
const draw = canvas.getContext("2d");
const view = { row: 0, col: 0, scale: 1 };  // center; screen pixels per image pixel
const squares = new Map();
const KEEP = 300;
let image = null;  // number, height, width, deepest reduction
let paintOver = () => {};
let viewChanged = () => {};
let queued = false;

function size() {
  const box = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  redraw();
}

function fit() {
  view.row = image.height / 2;
  view.col = image.width / 2;
  view.scale = Math.min(canvas.clientWidth / image.width, canvas.clientHeight / image.height) * 0.98;
  redraw();
}

function limits() {
  const least = Math.min(canvas.clientWidth / image.width, canvas.clientHeight / image.height) * 0.5;
  view.scale = Math.min(Math.max(view.scale, Math.min(least, 1)), 16);
  view.row = Math.min(Math.max(view.row, 0), image.height);
  view.col = Math.min(Math.max(view.col, 0), image.width);
}

function redraw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; paint(); });
}

const toX = (col) => (col - view.col) * view.scale + canvas.clientWidth / 2;
const toY = (row) => (row - view.row) * view.scale + canvas.clientHeight / 2;

// The column and row of the image at a pointer.
function pointed(event) {
  const box = canvas.getBoundingClientRect();
  return [
    (event.clientX - box.left - canvas.clientWidth / 2) / view.scale + view.col,
    (event.clientY - box.top - canvas.clientHeight / 2) / view.scale + view.row,
  ];
}

function square(shrink, top, left) {
  const key = `${image.number}/${shrink}/${top}/${left}`;
  let picture = squares.get(key);
  if (!picture) {
    picture = new Image();
    picture.addEventListener("load", redraw);
    picture.src = `${root}/windows/${page.mark}/${key}.png`;
    if (squares.size > KEEP) squares.delete(squares.keys().next().value);
  } else {
    squares.delete(key);
  }
  squares.set(key, picture);
  return picture;
}

function paintImage(shrink) {
  const step = page.square * shrink;
  const [width, height] = [canvas.clientWidth / view.scale, canvas.clientHeight / view.scale];
  const first = [Math.max(0, Math.floor((view.row - height / 2) / step)), Math.max(0, Math.floor((view.col - width / 2) / step))];
  const last = [Math.min(Math.ceil(image.height / step), Math.ceil((view.row + height / 2) / step)), Math.min(Math.ceil(image.width / step), Math.ceil((view.col + width / 2) / step))];
  for (let top = first[0]; top < last[0]; top += 1) {
    for (let left = first[1]; left < last[1]; left += 1) {
      const part = square(shrink, top, left);
      if (!part.complete || !part.naturalWidth) continue;
      draw.drawImage(part, toX(left * step), toY(top * step), part.naturalWidth * shrink * view.scale, part.naturalHeight * shrink * view.scale);
    }
  }
}

function paint() {
  if (!image) return;
  limits();
  const ratio = canvas.width / Math.max(1, canvas.clientWidth);
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.fillStyle = "#101010";
  draw.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  draw.imageSmoothingEnabled = view.scale < 1.5;
  const wanted = Math.max(1, 2 ** Math.floor(Math.log2(1 / view.scale)));
  const shrink = Math.min(wanted, image.deepest);
  draw.save();
  draw.beginPath();  // reduced squares reach beyond the image by less than a pixel of theirs
  draw.rect(toX(0), toY(0), image.width * view.scale, image.height * view.scale);
  draw.clip();
  if (shrink < image.deepest) paintImage(image.deepest);  // a coarse image until the rest is loaded
  paintImage(shrink);
  draw.restore();
  paintOver();
  viewChanged();
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const before = [(x - canvas.clientWidth / 2) / view.scale, (y - canvas.clientHeight / 2) / view.scale];
  view.scale *= factor;
  limits();
  view.col += before[0] - (x - canvas.clientWidth / 2) / view.scale;
  view.row += before[1] - (y - canvas.clientHeight / 2) / view.scale;
  redraw();
}

function pan(across, down) {
  view.col += across / view.scale;
  view.row += down / view.scale;
  redraw();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoom(2 ** (-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
$("in").addEventListener("click", () => zoom(1.6));
$("out").addEventListener("click", () => zoom(1 / 1.6));
$("fit").addEventListener("click", fit);
new ResizeObserver(size).observe(canvas);
