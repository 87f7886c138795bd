// Masks over the pictures they belong to. props.value: see stzoo/ui/masks.py.
const root = element.querySelector(".stzoo-overlay");
const canvas = make("canvas", {role: "img"});
const layer = document.createElement("canvas");
const legend = make("div", {className: "legend", role: "group", "aria-label": "What is shown"});
const opacity = make("input", {type: "range", min: 0, max: 100, value: 60, "aria-label": "Opacity", oninput: () => draw()});
const frames = scrubber(() => draw());
const tools = make("div", {className: "tools"}, frames.line, make("label", {className: "scrub"}, "Opacity", opacity));
const empty = make("p", {className: "empty"}, "Nothing yet");
root.append(empty, canvas, tools, legend);
let masks = null, picture = null, shown = new Uint8Array(256), latest = 0;

function draw() {
  if (!masks) return;
  const {width, height} = masks, context = canvas.getContext("2d"), own = layer.getContext("2d", {willReadFrequently: true});
  layer.width = width; layer.height = height;
  own.drawImage(masks.image, ...place(masks, frames.frame), 0, 0, width, height);
  const pixels = own.getImageData(0, 0, width, height), numbers = pixels.data, colours = new Uint8Array(1024);
  for (const entry of masks.classes) {
    colours.set([...entry.colour, shown[entry.number] ? Math.round(2.55 * opacity.value) : 0], 4 * entry.number);
  }
  for (let at = 0; at < numbers.length; at += 4) {
    const from = 4 * numbers[at];
    for (let part = 0; part < 4; part++) numbers[at + part] = colours[from + part];
  }
  own.putImageData(pixels, 0, 0);
  canvas.width = picture ? picture.width : width;
  canvas.height = picture ? picture.height : height;
  context.imageSmoothingEnabled = false;
  if (picture) context.drawImage(picture.image, ...place(picture, frames.frame), 0, 0, canvas.width, canvas.height);
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

async function update() {
  const turn = ++latest, value = props.value;
  const there = Boolean(value && value.masks);
  for (const part of [canvas, tools, legend]) part.hidden = !there;
  empty.hidden = there;
  masks = null;
  if (!there) return;
  const [first, second] = await Promise.all([loaded(value.masks), loaded(value.picture)]);
  if (turn !== latest) return;
  masks = {...first, classes: value.classes};
  picture = second;
  canvas.setAttribute("aria-label", `Mask: ${value.classes.map(entry => entry.name).join(", ")}`);
  fit(canvas, (picture || masks).width, (picture || masks).height);
  frames.frames(masks.count);
  tickBoxes(legend, masks.classes, shown, draw);
  draw();
  root.dataset.ready = turn;
}
watch("value", update);
update();
