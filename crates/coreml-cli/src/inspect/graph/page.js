const record = JSON.parse(document.getElementById("record").textContent);
const view = document.getElementById("view");
const svg = view.querySelector("svg");
const [wholeWidth, wholeHeight] = [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height];
const elements = [...svg.querySelectorAll("[data-node]")];
let box = { x: 0, y: 0, width: wholeWidth, height: wholeHeight };

function show() {
  svg.setAttribute("viewBox", `${box.x} ${box.y} ${box.width} ${box.height}`);
}
// The part that is shown has the form of the window, so that a point stays under the pointer.
function fit(x, y, width) {
  const { clientWidth, clientHeight } = view;
  box = { x, y, width, height: (width * clientHeight) / clientWidth };
  show();
}
function whole() {
  const { clientWidth, clientHeight } = view;
  const width = Math.max(wholeWidth, (wholeHeight * clientWidth) / clientHeight);
  fit((wholeWidth - width) / 2, 0, width);
}
// Long graphs begin at a size that can be read.
function begin() {
  const width = Math.max(wholeWidth, view.clientWidth);
  fit((wholeWidth - width) / 2, 0, Math.min(width, Math.max(view.clientWidth * 1.6, 600)));
  if (box.width < wholeWidth) box.x = (wholeWidth - box.width) / 2;
  show();
}
function point(event) {
  const { left, top } = view.getBoundingClientRect();
  const scale = box.width / view.clientWidth;
  return [box.x + (event.clientX - left) * scale, box.y + (event.clientY - top) * scale];
}
view.addEventListener("wheel", (event) => {
  event.preventDefault();
  const [x, y] = point(event);
  const factor = Math.exp(event.deltaY * 0.0015);
  const width = Math.min(Math.max(box.width * factor, 80), 20 * Math.max(wholeWidth, wholeHeight));
  const scale = width / box.width;
  fit(x - (x - box.x) * scale, y - (y - box.y) * scale, width);
}, { passive: false });
let drag = null;
view.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; });
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const scale = box.width / view.clientWidth;
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag = { x: event.clientX, y: event.clientY, moved: true };
  view.classList.add("moving");
  fit(box.x - dx * scale, box.y - dy * scale, box.width);
});
window.addEventListener("pointerup", (event) => {
  view.classList.remove("moving");
  const clicked = drag && !drag.moved;
  drag = null;
  if (!clicked) return;
  const node = event.target.closest?.("[data-node]");
  if (node) choose(Number(node.dataset.node));
});
window.addEventListener("resize", () => fit(box.x, box.y, box.width));

const details = document.getElementById("details");
function put(parent, name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  parent.append(element);
  return element;
}
function choose(i) {
  const node = record.nodes[i];
  const near = new Set(record.edges.filter(([from, , to]) => from === i || to === i).map(([from, result]) => `${from}.${result}`));
  elements.forEach((element) => element.classList.toggle("chosen", Number(element.dataset.node) === i));
  for (const edge of svg.querySelectorAll(".e")) {
    edge.classList.toggle("near", near.has(`${edge.dataset.from}.${edge.dataset.result}`));
  }
  details.replaceChildren();
  put(details, "h2", node.kind);
  put(details, "button", "×").addEventListener("click", () => { details.hidden = true; });
  const list = document.createElement("dl");
  const rows = [["name", node.name], ["result", node.type], ["scope", node.scope], ...node.details];
  for (const [name, text] of rows.filter(([, text]) => text)) {
    put(list, "dt", name);
    put(list, "dd", text);
  }
  details.append(list);
  details.hidden = false;
}

const search = document.getElementById("search");
const found = document.getElementById("found");
let hits = [];
let at = -1;
function go(step) {
  if (!hits.length) return;
  at = (at + step + hits.length) % hits.length;
  found.value = `${at + 1} of ${hits.length}`;
  const node = elements.find((element) => Number(element.dataset.node) === hits[at]);
  const { x, y, width, height } = node.getBBox();
  const { e, f } = node.parentNode.transform.baseVal.consolidate().matrix;
  const wide = Math.min(box.width, 900);
  const high = (wide * view.clientHeight) / view.clientWidth;
  fit(e + x + width / 2 - wide / 2, f + y + height / 2 - high / 2, wide);
  choose(hits[at]);
}
search.addEventListener("input", () => {
  const words = search.value.toLowerCase();
  const matches = (node) => [node.kind, node.name, node.scope].some((text) => text.toLowerCase().includes(words));
  hits = words ? record.nodes.flatMap((node, i) => (matches(node) ? [i] : [])) : [];
  elements.forEach((element) => element.classList.toggle("hit", hits.includes(Number(element.dataset.node))));
  at = -1;
  found.value = words ? `${hits.length} found` : "";
});
search.addEventListener("keydown", (event) => { if (event.key === "Enter") go(event.shiftKey ? -1 : 1); });
document.getElementById("whole").addEventListener("click", whole);
begin();
