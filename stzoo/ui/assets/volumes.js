// Slices of a volume in three planes, a mask over them. props.value: see stzoo/ui/volumes.py.
const root = element.querySelector(".stzoo-volume");
// Across which axis each plane is cut, its axes to the right and up, and what lies left and right.
const planes = [
  {name: "Axial", across: 2, right: 0, up: 1, sides: "LR"},
  {name: "Coronal", across: 1, right: 0, up: 2, sides: "LR"},
  {name: "Sagittal", across: 0, right: 1, up: 2, sides: "PA"},
];
const row = make("div", {className: "planes"});
const legend = make("div", {className: "legend", role: "group", "aria-label": "What is shown"});
const opacity = make("input", {type: "range", min: 0, max: 100, value: 50, "aria-label": "Opacity", oninput: () => draw()});
const tools = make("div", {className: "tools"}, make("label", {className: "scrub"}, "Opacity", opacity));
const about = make("p", {className: "said"});
const empty = make("p", {className: "empty"}, "Nothing yet");
for (const plane of planes) {
  plane.canvas = make("canvas", {role: "img", onpointerdown: event => point(plane, event)});
  plane.said = make("output");
  plane.slider = make("input", {type: "range", min: 0, max: 0, value: 0, "aria-label": `${plane.name} slice`, oninput: () => draw()});
  const stage = make("div", {className: "stage"}, plane.canvas,
    make("span", {className: "side first", "aria-hidden": "true"}, plane.sides[0]), make("span", {className: "side last", "aria-hidden": "true"}, plane.sides[1]));
  row.append(make("div", {className: "plane"}, stage, make("label", {className: "scrub"}, plane.name, plane.slider, plane.said)));
}
root.append(empty, row, tools, legend, about);
let value = null, grey = null, mask = null, classes = [], shown = new Uint8Array(256), latest = 0;

// The numbers of all voxels, x running fastest, then y, then z.
function numbers(part) {
  if (!part) return null;
  const sheet = document.createElement("canvas"), context = sheet.getContext("2d", {willReadFrequently: true});
  const {width, height, count} = part, found = new Uint8Array(width * height * count);
  sheet.width = width; sheet.height = height;
  for (let slice = 0; slice < count; slice++) {
    context.drawImage(part.image, ...place(part, slice), 0, 0, width, height);
    const data = context.getImageData(0, 0, width, height).data, start = slice * width * height;
    for (let at = 0; at < width * height; at++) found[start + at] = data[4 * at];
  }
  return found;
}

function draw() {
  if (!value) return;
  const steps = [1, value.shape[0], value.shape[0] * value.shape[1]], blend = opacity.value / 100;
  const colours = Array.from({length: 256}, () => null);
  for (const entry of classes) if (shown[entry.number]) colours[entry.number] = entry.colour;
  for (const {canvas, slider, said, across, right, up} of planes) {
    const width = value.shape[right], height = value.shape[up], start = slider.value * steps[across];
    const context = canvas.getContext("2d"), pixels = context.createImageData(width, height), data = pixels.data;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const from = start + x * steps[right] + (height - 1 - y) * steps[up], to = 4 * (y * width + x);
        const shade = grey ? grey[from] : 0, colour = mask ? colours[mask[from]] : null;
        for (let part = 0; part < 3; part++) data[to + part] = colour ? shade + (colour[part] - shade) * blend : shade;
        data[to + 3] = 255;
      }
    }
    context.putImageData(pixels, 0, 0);
    said.textContent = `${slider.value * value.step + 1} / ${(slider.max - 0) * value.step + 1}`;
  }
}

// The other two planes follow to the place that was pointed at.
function point(plane, event) {
  if (!value) return;
  const box = plane.canvas.getBoundingClientRect();
  const at = [[plane.right, (event.clientX - box.left) / box.width], [plane.up, 1 - (event.clientY - box.top) / box.height]];
  for (const [axis, share] of at) {
    planes.find(other => other.across === axis).slider.value = Math.floor(share * value.shape[axis]);
  }
  draw();
}

async function update() {
  const turn = ++latest, given = props.value;
  const there = Boolean(given && given.shape);
  for (const part of [row, about]) part.hidden = !there;
  tools.hidden = legend.hidden = !there || !given.mask;
  empty.hidden = there;
  value = null;
  if (!there) return;
  const [first, second] = await Promise.all([loaded(given.volume), loaded(given.mask)]);
  if (turn !== latest) return;
  [grey, mask, value, classes, shown] = [numbers(first), numbers(second), given, given.classes, new Uint8Array(256)];
  const finest = Math.min(...value.spacing), size = value.shape.map((side, axis) => side * value.spacing[axis] / finest);
  for (const {name, canvas, slider, across, right, up} of planes) {
    canvas.width = value.shape[right]; canvas.height = value.shape[up];
    canvas.style.aspectRatio = `${size[right]} / ${size[up]}`;
    canvas.style.width = `min(100%, ${(16 * size[right] / size[up]).toFixed(2)}rem)`;
    canvas.setAttribute("aria-label", `${name} slice${mask ? `, mask: ${classes.map(entry => entry.name).join(", ")}` : ""}`);
    slider.max = value.shape[across] - 1;
    slider.value = value.shape[across] >> 1;
  }
  about.textContent = `${value.step > 1 ? `One voxel in ${value.step} along each axis is shown; downloads hold all of them · ` : ""}`
    + `${value.spacing.map(side => side.toFixed(2)).join(" x ")} mm; L left, R right, P back, A front; click to go there`;
  tickBoxes(legend, classes, shown, draw);
  draw();
  root.dataset.ready = turn;
}
watch("value", update);
update();
