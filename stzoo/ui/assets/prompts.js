// Points, boxes and brushed masks on a picture or on frames. props.value: what Prompts.read takes; props.picture: see stzoo/ui/prompts.py.
const root = element.querySelector(".stzoo-prompts");
const MODES = [["positive", "+ Point", "Points on the object (a right click: off it)"], ["negative", "− Point", "Points off the object"],
  ["box", "Box", "Drag a box around the object"], ["brush", "Brush", "Paint over the object"]];
let mode = "positive", sheet = null, drag = null, before = [], brush = null, fresh = false, latest = 0;
const below = make("canvas"), above = make("canvas", {className: "above", role: "img"});
const stage = make("div", {className: "stage"}, below, above);
const buttons = MODES.map(([name, text, title]) =>
  make("button", {type: "button", title, "aria-pressed": name === mode, onclick: () => choose(name)}, text));
const object = make("input", {type: "number", min: 1, max: 254, value: 1, oninput: () => draw()});
const size = make("input", {type: "range", min: 1, max: 20, value: 6});
const width = make("label", {className: "scrub", hidden: true}, "Brush size", size);
const undo = make("button", {type: "button", onclick: () => before.length && set(before.pop(), false)}, "Undo");
const clear = make("button", {type: "button", onclick: () => set([])}, "Clear");
const frames = scrubber(() => draw());
const said = make("p", {className: "said", role: "status"});
const empty = make("p", {className: "empty"});
root.append(make("div", {className: "tools"}, make("div", {className: "modes", role: "group", "aria-label": "What a click does"}, ...buttons),
  make("label", {className: "scrub"}, "Object", object), width, undo, clear), empty, stage, frames.line, said);

const prompts = () => Array.isArray(props.value) ? props.value : [];
const number = () => Math.max(1, Math.min(254, Math.round(+object.value) || 1));
const colour = (index, strength = 1) => `rgb(${(props.colours[index] || [255, 255, 255]).join(" ")} / ${strength})`;

function choose(name) {
  mode = name;
  buttons.forEach((button, index) => button.setAttribute("aria-pressed", MODES[index][0] === name));
  width.hidden = name !== "brush";
  above.style.touchAction = name === "box" || name === "brush" ? "none" : "manipulation";
}

function set(value, kept = true) {
  if (kept) before = [...before.slice(-99), prompts()];
  props.value = value;
  draw();
}

function add(kind, made) {
  const same = prompt => prompt[kind] && (prompt.frame || 0) === frames.frame && (prompt.object || 1) === number();
  const list = prompts(), old = kind === "box" ? -1 : list.findIndex(same);
  const entry = {frame: frames.frame, object: number(), [kind]: kind === "points" && old >= 0 ? [...list[old].points, ...made] : made};
  set(old < 0 ? [...list, entry] : list.map((prompt, index) => index === old ? entry : prompt));
}

// Masks as lengths of runs down the columns, those of 0 first.
function runs(pixels, columns, rows) {
  const counts = [];
  let bit = 0, length = 0;
  for (let x = 0; x < columns; x++) for (let y = 0; y < rows; y++) {
    if (pixels[y * columns + x] !== bit) { counts.push(length); length = 0; bit = 1 - bit; }
    length++;
  }
  return {size: [rows, columns], counts: [...counts, length]};
}
function unpacked({size: [rows, columns], counts}) {
  const pixels = new Uint8Array(rows * columns);
  let at = 0;
  counts.forEach((count, index) => {
    for (const end = at + count; at < end; at++) if (index % 2) pixels[at % rows * columns + Math.floor(at / rows)] = 1;
  });
  return pixels;
}
function dab(x, y) {
  const {width: columns, height: rows} = sheet, radius = Math.max(0.7, +size.value / 100 * Math.max(columns, rows));
  for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(rows - 1, y + radius); row++)
    for (let column = Math.max(0, Math.floor(x - radius)); column <= Math.min(columns - 1, x + radius); column++)
      if ((column + .5 - x) ** 2 + (row + .5 - y) ** 2 <= radius ** 2) brush[row * columns + column] = 1;
}
function stroke([x0, y0], [x1, y1]) {
  const steps = Math.ceil(Math.hypot(x1 - x0, y1 - y0)) || 1;
  for (let step = 0; step <= steps; step++) dab(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps);
}

function at(event) {
  const area = above.getBoundingClientRect();
  return [(event.clientX - area.left) / area.width * sheet.width, (event.clientY - area.top) / area.height * sheet.height];
}
const bounded = ([x, y]) => [Math.max(0, Math.min(sheet.width - 1, Math.floor(x))), Math.max(0, Math.min(sheet.height - 1, Math.floor(y)))];
function corners(from, to) {
  const [[a, b], [c, d]] = [bounded(from), bounded(to)];
  return [Math.min(a, c), Math.min(b, d), Math.max(a, c) + 1, Math.max(b, d) + 1];
}
above.addEventListener("contextmenu", event => event.preventDefault());
above.addEventListener("pointerdown", event => {
  if (!sheet || drag || !(event.button === 0 || event.button === 2)) return;
  const from = at(event);
  drag = {from, to: from, last: from, label: mode === "negative" || event.button === 2 ? 0 : 1};
  if (mode === "brush") {
    const own = prompts().find(prompt => prompt.mask && (prompt.frame || 0) === frames.frame && (prompt.object || 1) === number());
    const fits = own && own.mask.size[0] === sheet.height && own.mask.size[1] === sheet.width;
    brush = fits ? unpacked(own.mask) : new Uint8Array(sheet.width * sheet.height);
    dab(...from);
  }
  if (mode === "box" || mode === "brush") above.setPointerCapture(event.pointerId);
  draw();
});
above.addEventListener("pointermove", event => {
  if (!drag) return;
  drag.to = at(event);
  if (mode === "brush") { stroke(drag.last, drag.to); drag.last = drag.to; }
  if (mode === "box" || mode === "brush") draw();
});
above.addEventListener("pointerup", event => {
  if (!drag) return;
  const {from, label} = drag, to = at(event);
  drag = null;
  if (mode === "box") {
    const box = corners(from, to);
    if (box[2] - box[0] > 1 || box[3] - box[1] > 1) add("box", box);
  } else if (mode === "brush") {
    const mask = runs(brush, sheet.width, sheet.height);
    brush = null;
    add("mask", mask);
  } else add("points", [[...bounded(from), label]]);
  draw();
});
above.addEventListener("pointercancel", () => { drag = brush = null; draw(); });

function paint(context, pixels, columns, rows, index) {
  const layer = make("canvas", {width: columns, height: rows}), own = layer.getContext("2d"), image = own.createImageData(columns, rows);
  const [red, green, blue] = props.colours[index] || [255, 255, 255];
  pixels.forEach((bit, place) => bit && image.data.set([red, green, blue, 140], 4 * place));
  own.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0, above.width, above.height);
}
function rectangle(context, [x0, y0, x1, y1], index, scale) {
  for (const [line, style] of [[5, "rgb(0 0 0 / .55)"], [2.5, colour(index)]]) {
    context.lineWidth = line * devicePixelRatio;
    context.strokeStyle = style;
    context.strokeRect(x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
  }
}
function dot(context, [x, y, label], index, scale) {
  const radius = 8 * devicePixelRatio, [left, top] = [(x + .5) * scale, (y + .5) * scale];
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  context.fillStyle = label ? colour(index) : "rgb(20 20 20 / .85)";
  context.fill();
  context.lineWidth = 2 * devicePixelRatio;
  context.strokeStyle = label ? "white" : colour(index);
  context.stroke();
  context.beginPath();
  context.moveTo(left - radius / 2, top);
  context.lineTo(left + radius / 2, top);
  if (label) { context.moveTo(left, top - radius / 2); context.lineTo(left, top + radius / 2); }
  context.strokeStyle = "white";
  context.stroke();
}
function draw() {
  const list = prompts(), others = [...new Set(list.map(prompt => prompt.frame || 0))].sort((one, two) => one - two);
  const count = `${list.length} prompt${list.length === 1 ? "" : "s"}`;
  said.textContent = list.length && sheet && sheet.count > 1 ? `${count}, on frame ${others.map(frame => frame + 1).join(", ")}` : count;
  object.style.borderLeftColor = colour(number());
  undo.disabled = !before.length;
  clear.disabled = !list.length;
  if (!sheet) return;
  below.width = sheet.width;
  below.height = sheet.height;
  below.getContext("2d").drawImage(sheet.image, ...place(sheet, frames.frame), 0, 0, sheet.width, sheet.height);
  above.width = Math.max(1, Math.round(above.clientWidth * devicePixelRatio));
  above.height = Math.max(1, Math.round(above.clientHeight * devicePixelRatio));
  const context = above.getContext("2d"), scale = above.width / sheet.width;
  const here = list.filter(prompt => (prompt.frame || 0) === frames.frame);
  for (const {mask, object: index = 1} of here) if (mask) paint(context, unpacked(mask), mask.size[1], mask.size[0], index);
  if (brush) paint(context, brush, sheet.width, sheet.height, number());
  for (const {box, object: index = 1} of here) if (box) rectangle(context, box, index, scale);
  if (drag && mode === "box") rectangle(context, corners(drag.from, drag.to), number(), scale);
  for (const {points, object: index = 1} of here) for (const point of points || []) dot(context, point, index, scale);
  above.setAttribute("aria-label", `${said.textContent}. ${MODES.find(([name]) => name === mode)[2]}`);
}

async function update() {
  const turn = ++latest, given = props.picture, known = sheet && sheet.id;
  const next = await loaded(given);
  if (turn !== latest) return;
  sheet = next;
  stage.hidden = !sheet;
  frames.line.hidden = true;
  empty.hidden = Boolean(sheet);
  empty.textContent = `Give ${props.target} first; then point at it here`;
  // Prompts belong to what they were made on. Those that came with the picture, as an example's do, stay.
  const stale = known !== (sheet && sheet.id) && !fresh && prompts().length && known;
  fresh = false;
  if (sheet) {
    fit(stage, sheet.width, sheet.height);
    frames.frames(sheet.count);
    frames.frame = Math.min(frames.frame, sheet.count - 1);
    root.dataset.ready = sheet.id;
  } else delete root.dataset.ready;
  if (stale) { before = []; set([], false); } else draw();
}
watch("value", () => {
  fresh = true;
  before = [];
  const first = prompts()[0];
  if (first && sheet) frames.frame = Math.min(first.frame || 0, sheet.count - 1);
  draw();
});
const [below_it] = Object.keys({picture: 0});  // in quotes, Gradio would take the word for the name of an event
watch(below_it, update);
new ResizeObserver(() => draw()).observe(stage);
choose(mode);
update();
