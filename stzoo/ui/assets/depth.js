// Depth in colours made here, from the numbers themselves. props.value: see stzoo/ui/maps.py.
const root = element.querySelector(".stzoo-depth");
const map = make("canvas", {className: "map", tabIndex: 0, role: "img"});
const bar = make("canvas", {width: 256, height: 1, role: "img", "aria-label": "Colour scale"});
const ticks = make("div", {className: "ticks"});
const scale = make("div", {className: "scale"}, bar, ticks);
const said = make("p", {className: "said", role: "status"});
const about = make("p", {className: "about"});
const hue = make("select", {"aria-label": "Colour map", onchange: () => draw()}, ...Object.keys(props.maps).map(name => make("option", {}, name)));
const low = make("input", {type: "number", step: "any", "aria-label": "Lowest value", oninput: () => draw()});
const high = make("input", {type: "number", step: "any", "aria-label": "Highest value", oninput: () => draw()});
const reset = make("button", {type: "button", onclick: () => { range(); draw(); }}, "Reset range");
const tools = make("div", {className: "tools"}, make("label", {}, "Colours", hue), make("label", {}, "from", low), make("label", {}, "to", high), reset);
const empty = make("p", {className: "empty"}, "Nothing yet");
root.append(empty, map, said, scale, about, tools);
let depth = null, value = null, at = null, latest = 0;

const text = (number, significant = 3) => {
  const digits = number ? Math.max(0, significant - 1 - Math.floor(Math.log10(Math.abs(number)))) : 0;
  return number.toFixed(Math.min(digits, 8)) + (value.unit ? ` ${value.unit}` : "");
};
const range = () => { low.value = +value.low.toPrecision(4); high.value = +value.high.toPrecision(4); };

function table(size) {
  const terms = props.maps[hue.value], colours = new Uint8ClampedArray(3 * size);
  for (let index = 0; index < size; index++) {
    for (let part = 0; part < 3; part++) {
      let sum = 0;
      for (let power = terms.length - 1; power >= 0; power--) sum = sum * index / (size - 1) + terms[power][part];
      colours[3 * index + part] = 255 * sum;
    }
  }
  return colours;
}

function draw() {
  if (!depth) return;
  const from = parseFloat(low.value), to = parseFloat(high.value), {width, height} = value;
  if (!(to > from)) { said.textContent = "The range is empty: choose a higher value on the right"; return; }
  const colours = table(1024), context = map.getContext("2d"), pixels = context.createImageData(width, height), data = pixels.data;
  for (let index = 0; index < depth.length; index++) {
    const number = depth[index], place = 4 * index;
    data[place + 3] = 255;
    if (Number.isNaN(number)) {
      const shade = ((index % width >> 2) + (Math.floor(index / width) >> 2)) % 2 ? 190 : 150;
      data[place] = data[place + 1] = data[place + 2] = shade;
      continue;
    }
    const entry = 3 * Math.round(1023 * Math.min(1, Math.max(0, (number - from) / (to - from))));
    data[place] = colours[entry]; data[place + 1] = colours[entry + 1]; data[place + 2] = colours[entry + 2];
  }
  context.putImageData(pixels, 0, 0);
  const strip = bar.getContext("2d"), row = strip.createImageData(256, 1), shades = table(256);
  for (let index = 0; index < 256; index++) row.data.set([shades[3 * index], shades[3 * index + 1], shades[3 * index + 2], 255], 4 * index);
  strip.putImageData(row, 0, 0);
  const marks = root.clientWidth < 420 ? 3 : 5;
  ticks.replaceChildren(...Array.from({length: marks}, (_, index) => make("span", {}, text(from + (to - from) * index / (marks - 1)))));
  tell();
}

function tell() {
  if (!at) { said.textContent = "Point at a pixel, or use the arrow keys, to read its value"; return; }
  const number = depth[at.y * value.width + at.x];
  said.textContent = `${Number.isNaN(number) ? "not known" : text(number, 6)} at x ${at.x * value.step}, y ${at.y * value.step}`;
}

function point(event) {
  if (!depth) return;
  const box = map.getBoundingClientRect();
  const inside = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  at = {x: inside((event.clientX - box.left) / box.width, value.width), y: inside((event.clientY - box.top) / box.height, value.height)};
  tell();
}
map.addEventListener("pointermove", point);
map.addEventListener("pointerdown", point);
map.addEventListener("keydown", event => {
  const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!move || !depth) return;
  event.preventDefault();
  const step = event.shiftKey ? 10 : 1, {x, y} = at || {x: value.width >> 1, y: value.height >> 1};
  at = {x: Math.min(value.width - 1, Math.max(0, x + step * move[0])), y: Math.min(value.height - 1, Math.max(0, y + step * move[1]))};
  tell();
});

async function update() {
  const turn = ++latest, given = props.value;
  const there = Boolean(given && given.file);
  for (const part of [map, said, scale, about, tools]) part.hidden = !there;
  empty.hidden = there;
  depth = at = null;
  if (!there) return;
  const answer = await fetch(given.file.url), bytes = await answer.arrayBuffer();
  if (turn !== latest) return;
  if (!answer.ok || bytes.byteLength !== 4 * given.width * given.height) {
    for (const part of [map, said, scale, about, tools]) part.hidden = true;
    empty.textContent = "The depth could not be loaded; predict again";
    empty.hidden = false;
    return;
  }
  value = given;
  depth = new Float32Array(bytes);
  map.width = value.width; map.height = value.height;
  fit(map, value.width, value.height);
  map.setAttribute("aria-label", `Depth, from ${text(value.low)} to ${text(value.high)}`);
  const notes = [];
  if (value.unknown) notes.push(`chequered: not known (${(100 * value.unknown).toFixed(1)} %)`);
  if (value.step > 1) notes.push(`every ${value.step}th pixel is shown; downloads hold all of them`);
  about.textContent = notes.join(" · ");
  about.hidden = !notes.length;
  range();
  draw();
}
watch("value", update);
update();
