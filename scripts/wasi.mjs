// Runs a WebAssembly program under node's WASI: `node scripts/wasi.mjs PROGRAM.wasm FOLDER [ARGUMENT]…`. The program sees
// FOLDER as its root and nothing else.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [program, folder, ...rest] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...rest], preopens: { "/": folder } });
const module = await WebAssembly.compile(await readFile(program));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
