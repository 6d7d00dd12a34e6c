// The page in web/, in a Chromium without a window: `node check_web.mjs WEB ARCHIVE PHOTO LABEL PROBABILITY
// [SCREENSHOT]`, from a folder with @sparticuz/chromium and puppeteer-core. WEB is the folder with the page, ARCHIVE a classifier in a
// zip archive, PHOTO a picture, LABEL what the classifier finds on it elsewhere and PROBABILITY how surely.
import { createServer } from "node:http";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { createRequire } from "node:module";
import { basename, extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const [web, archive, photo, label, expected, screenshot] = process.argv.slice(2);
const installed = createRequire(join(process.cwd(), "here.js"));
const load = async (name) => (await import(pathToFileURL(installed.resolve(name)).href)).default;
const [chromium, puppeteer] = [await load("@sparticuz/chromium"), await load("puppeteer-core")];

const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const foreign = [];
const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname).replace(/\/$/, "/index.html");
  try {
    const body = await readFile(join(web, path));
    response.writeHead(200, { "content-type": types[extname(path)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const here = `http://127.0.0.1:${server.address().port}`;

function must(holds, what) {
  if (!holds) throw new Error(what);
}

const browser = await puppeteer.launch({
  args: [...chromium.args, "--no-sandbox"],
  executablePath: await chromium.executablePath(),
  headless: "shell",
});
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => foreign.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(here)) foreign.push(request.url());
    if (request.method() !== "GET") foreign.push(`${request.method()} ${request.url()}`);
  });
  const state = () => page.$eval("#state", (element) => element.textContent);
  const until = (start) => page.waitForFunction(
    (start) => document.getElementById("state").textContent.startsWith(start) ||
      !document.getElementById("error").hidden,
    { timeout: 120_000 }, start);
  const give = async (id, file) => (await page.$(`#${id}`)).uploadFile(file);
  const error = () => page.$eval("#error", (element) => (element.hidden ? "" : element.textContent));

  await page.goto(here);
  await until("The engine is ready");
  console.log(await state());
  must((await state()).includes("simd128"), "the kernels were not built for vectors");

  // A broken file first: our words, and the page goes on.
  const broken = join(await mkdtemp(join(tmpdir(), "web-")), "broken.zip");
  await writeFile(broken, (await readFile(archive)).subarray(0, 100_000));
  await give("file", broken);
  await page.waitForFunction(() => !document.getElementById("error").hidden, { timeout: 60_000 });
  console.log(`broken archive: ${await error()}`);
  must((await error()).includes("damaged zip archive"), "the error is not ours");

  await give("file", archive);
  await until("Ready after");
  must(await error() === "", await error());
  console.log(await state());
  const features = await page.$$eval("#interface tr", (rows) => rows.map((row) => row.innerText.replaceAll("\t", " ")));
  console.log(features.join("\n"));
  must(features.some((feature) => feature.startsWith("input image image")), "the interface does not show the picture");

  await give("pictures", photo);
  await until(`${basename(photo)} took`);
  must(await error() === "", await error());
  const [shown, percent] = await page.$eval(".class", (row) => [row.firstChild.textContent, row.lastChild.textContent]);
  console.log(`${shown} ${percent}`);
  must(shown === label, `expected ${label}`);
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });

  // The same through the module, with all digits and often enough for a median.
  const bytes = [await readFile(archive), await readFile(photo)].map((file) => file.toString("base64"));
  const answers = await page.evaluate(async (bytes) => {
    const [archive, photo] = bytes.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
    const { Model } = await import("./pkg/coreml_web.js");
    const model = new Model(["model.zip"], [archive]);
    return Array.from({ length: 21 }, () => JSON.parse(model.look_at(photo)));
  }, bytes);
  const times = answers.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  const { label: first, probability } = answers[0].classes[0];
  console.log(`${first} ${probability}, elsewhere ${expected}; p50 ${times[10].toFixed(1)} ms of ${times.length}`);
  must(first === label, `expected ${label}`);
  must(Math.abs(probability - Number(expected)) < 1e-4, "the probability is another than elsewhere");
  must(foreign.length === 0, `the page asked others, or failed: ${foreign.join(", ")}`);
} finally {
  await browser.close();
  server.close();
}
