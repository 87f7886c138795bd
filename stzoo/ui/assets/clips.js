// Clips beside each other, and one slider over time for all of them. props.value: see stzoo/ui/sheets.py.
const root = element.querySelector(".stzoo-clips");
const stage = make("div", {className: "panels", tabIndex: 0, role: "group", "aria-label": "Frames: arrow keys step, space plays"});
const button = make("button", {type: "button", onclick: () => play(!timer)}, "Play");
const frames = scrubber(() => draw());
const tools = make("div", {className: "tools"}, button, frames.line);
const about = make("p", {className: "about"}, "Large: some frames or pixels are left out here; downloads hold all of them");
const empty = make("p", {className: "empty"}, "Nothing yet");
root.append(empty, stage, tools, about);
const GAP = 8, TALL = 320, HIGHEST = 560;
let panels = [], count = 0, pace = 5, timer = null, latest = 0;

function draw() {
  for (const {sheet, canvas, said, numbers, of, label} of panels) {
    const at = Math.min(frames.frame, numbers.length - 1), pen = canvas.getContext("2d");
    pen.drawImage(sheet.image, ...place(sheet, at), 0, 0, sheet.width, sheet.height);
    said.textContent = `${label ? `${label}: ` : ""}${numbers[at]} of ${of}`;
  }
  root.dataset.frame = frames.frame;
}

// As many beside each other as makes them largest; pixels are enlarged by a whole factor, or shown smaller.
function arrange() {
  if (!panels.length || !stage.clientWidth) return;
  const ratio = window.devicePixelRatio || 1, width = Math.max(...panels.map(item => item.sheet.width)), height = Math.max(...panels.map(item => item.sheet.height));
  let best = 0, columns = 1;
  for (let beside = panels.length; beside; beside--) {
    const rows = Math.ceil(panels.length / beside), most = Math.min((stage.clientWidth - GAP * (beside - 1)) / beside, Math.min(TALL, HIGHEST / rows) * width / height);
    const factor = most * ratio / width, size = factor >= 1 ? Math.floor(factor) * width / ratio : most;
    if (size > best) { best = size; columns = beside; }
  }
  stage.style.gridTemplateColumns = `repeat(${columns}, ${best}px)`;
  for (const {canvas} of panels) {
    canvas.style.width = `${best}px`;
    canvas.style.height = `${best * height / width}px`;
    canvas.classList.toggle("pixels", best * ratio >= width);
  }
}
new ResizeObserver(arrange).observe(stage);

function play(on) {
  clearInterval(timer);
  timer = on && count > 1 ? setInterval(() => {
    if (!root.isConnected) return play(false);
    frames.frame = (frames.frame + 1) % count;
    draw();
  }, 1000 / pace) : null;
  button.textContent = timer ? "Pause" : "Play";
}
function go(frame) {
  frames.frame = Math.min(count - 1, Math.max(0, frame));
  draw();
}
stage.addEventListener("keydown", event => {
  const to = {ArrowLeft: frames.frame - 1, ArrowRight: frames.frame + 1, Home: 0, End: count - 1}[event.key];
  if (event.key === " ") play(!timer);
  else if (to === undefined) return;
  else go(to);
  event.preventDefault();
});

async function update() {
  const turn = ++latest, value = props.value, there = Boolean(value && value.panels);
  play(false);
  for (const part of [stage, tools]) part.hidden = !there;
  about.hidden = !there || !value.thinned;
  empty.hidden = there;
  panels = [];
  if (!there) return;
  const sheets = await Promise.all(value.panels.map(item => loaded(item.sheet)));
  if (turn !== latest) return;
  panels = value.panels.map((item, index) => {
    const sheet = sheets[index], said = make("figcaption");
    const canvas = make("canvas", {width: sheet.width, height: sheet.height, role: "img", "aria-label": item.label || "frame"});
    return {...item, sheet, canvas, said, figure: make("figure", {}, canvas, said)};
  });
  stage.replaceChildren(...panels.map(item => item.figure));
  count = Math.max(...panels.map(item => item.numbers.length));
  pace = value.fps;
  frames.frames(count);
  button.hidden = count < 2;
  arrange();
  go(0);
  root.dataset.ready = turn;
}
watch("value", update);
update();
