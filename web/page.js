// Models and pictures are dropped or chosen; what the engine says of them is shown. Nothing leaves the page.
// @ts-check
import init, { Model, isa } from "./pkg/coreml_web.js";

/** @typedef {{ path: string, file: File }} Given */

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @type {Model | undefined} */
let model;

/** @param {string} text */
function say(text) {
  element("state").textContent = text;
}

/** What can fail, with its error on the page. @param {() => Promise<void>} work */
async function attempt(work) {
  element("error").hidden = true;
  try {
    await work();
  } catch (error) {
    element("error").textContent = error instanceof Error ? error.message : String(error);
    element("error").hidden = false;
    say("That did not work.");
  }
}

/** An element with text in it. @param {string} tag @param {string} text */
function make(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** A feature's type in short. @param {any} feature */
function kind({ kind, width, height, color, shape, dtype }) {
  if (kind === "image") return `image, ${width} × ${height}, ${color}`;
  return shape ? `${dtype} array, ${shape.join(" × ") || "any shape"}` : kind;
}

/** @param {Given[]} files */
async function openModel(files) {
  model?.free();
  model = undefined;
  element("interface").hidden = true;
  element("answers").replaceChildren();
  say("Reading the model…");
  const contents = await Promise.all(files.map(async ({ file }) => new Uint8Array(await file.arrayBuffer())));
  const start = performance.now();
  model = new Model(files.map(({ path }) => path), contents);
  const { inputs, outputs, states } = JSON.parse(model.interface());
  const rows = [["input", inputs], ["output", outputs], ["state", states]].flatMap(([role, features]) =>
    features.map((/** @type {any} */ feature) => {
      const row = document.createElement("tr");
      row.append(make("th", role), make("td", feature.name), make("td", kind(feature)));
      return row;
    }));
  element("interface").replaceChildren(...rows);
  element("interface").hidden = false;
  say(`Ready after ${(performance.now() - start).toFixed(0)} ms. Now a picture.`);
}

/** @param {File} picture */
async function lookAt(picture) {
  if (!model) throw new Error("a model comes first");
  const answer = JSON.parse(model.look_at(new Uint8Array(await picture.arrayBuffer())));
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  image.alt = picture.name;
  image.src = URL.createObjectURL(picture);
  image.onload = () => URL.revokeObjectURL(image.src);
  figure.append(image, make("figcaption", `${picture.name}: ${answer.milliseconds.toFixed(1)} ms`));
  for (const { label, probability } of answer.classes) {
    const bar = document.createElement("meter");
    bar.value = probability;
    const row = document.createElement("div");
    row.className = "class";
    row.append(make("span", label), bar, make("span", `${(probability * 100).toFixed(2)} %`));
    figure.append(row);
  }
  for (const { name, value } of answer.outputs) figure.append(make("div", `${name}: ${value}`));
  element("answers").prepend(figure);
  say(`${picture.name} took ${answer.milliseconds.toFixed(1)} ms.`);
}

/** All files of what was dropped, with their paths. @param {FileSystemEntry} entry @returns {Promise<Given[]>} */
async function filesOf(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = await new Promise((done, failed) => /** @type {FileSystemFileEntry} */ (entry).file(done, failed));
    return [{ path, file }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  // A reader gives some at a time, and none at the end.
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return found;
    for (const inner of some) found.push(...await filesOf(inner));
  }
}

/** @param {Given[]} files */
async function take(files) {
  const pictures = files.filter(({ path, file }) => !path.includes("/") && file.type.startsWith("image/"));
  const others = files.filter((given) => !pictures.includes(given));
  if (others.length > 0) await openModel(others);
  for (const { file } of pictures) await lookAt(file);
}

/** @param {string} id */
function chosen(id) {
  const input = /** @type {HTMLInputElement} */ (element(id));
  input.onchange = () => {
    const files = [...input.files ?? []].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
    return attempt(() => take(files));
  };
}

await attempt(async () => {
  await init();
  ["file", "folder", "pictures"].forEach(chosen);
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.ondragleave = () => document.body.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    // Entries are gone once the event is over: all are taken before anything waits.
    const entries = [...event.dataTransfer?.items ?? []].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
    return attempt(async () => take((await Promise.all(entries.map(filesOf))).flat()));
  };
  say(`The engine is ready (${isa()}). Now a model.`);
});
