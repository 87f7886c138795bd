// Frames that lie side by side in one picture file, and elements made from words: text is only ever text here.
const make = (tag, about = {}, ...inside) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(about)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
};
const loaded = sheet => new Promise((resolve, reject) => {
  if (!sheet) return resolve(null);
  const image = new Image();
  image.onload = () => resolve({...sheet, image});
  image.onerror = () => reject(new Error("a picture cannot be loaded"));
  image.src = sheet.file.url;
});
const place = (sheet, frame) => {
  const index = Math.min(frame, sheet.count - 1);
  return [index % sheet.columns * sheet.width, Math.floor(index / sheet.columns) * sheet.height, sheet.width, sheet.height];
};
// A canvas as wide as there is room for, and no higher than fits on a screen.
const fit = (box, width, height) => {
  box.style.width = `min(100%, ${(26 * width / height).toFixed(2)}rem)`;
  box.style.aspectRatio = `${width} / ${height}`;
  box.classList.toggle("pixels", height < 400);
};
const scrubber = show => {
  const said = make("output");
  const slider = make("input", {type: "range", min: 0, max: 0, value: 0, "aria-label": "Frame", oninput: () => { tell(); show(); }});
  const line = make("label", {className: "scrub"}, "Frame", slider, said);
  const tell = () => { said.textContent = `${+slider.value + 1} / ${+slider.max + 1}`; };
  return {line, get frame() { return +slider.value; }, set frame(frame) { slider.value = frame; tell(); },
    frames(count) { slider.max = count - 1; line.hidden = count < 2; tell(); }};
};
// The classes of masks, each with a box that sets whether it is shown.
const tickBoxes = (legend, classes, shown, show) => {
  legend.replaceChildren(...classes.map(entry => {
    const box = make("input", {type: "checkbox", checked: !entry.hidden, onchange: () => { shown[entry.number] = box.checked; show(); }});
    shown[entry.number] = !entry.hidden;
    const patch = make("span", {className: "patch"});
    patch.style.background = `rgb(${entry.colour.join(",")})`;
    const share = 100 * entry.share;
    return make("label", {}, box, patch, make("span", {className: "name"}, entry.name),
      make("span", {className: "share"}, `${share && share < 0.1 ? "< 0.1" : share.toFixed(1)} %`));
  }));
};
