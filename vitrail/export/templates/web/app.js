// A photograph to its labels, in this browser: the graph takes whole images and does everything else itself.
import * as ort from "./ort/ort.wasm.min.mjs";

const MOST = 4096; // pixels of the longer side; larger ones are made smaller, as browsers have little memory
const at = (id) => document.getElementById(id);
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;

const about = await (await fetch("about.json")).json();
at("title").textContent = about.name;
let session, last;
try {
  session = await ort.InferenceSession.create("model.onnx", {
    executionProviders: ["wasm"],
    externalData: [{ path: "weights.bin", data: "weights.bin" }],
  });
  at("said").textContent = "Drop a photograph here, or press to choose one.";
  at("file").disabled = false;
} catch (problem) {
  at("said").textContent = `The model could not be loaded: ${problem.message ?? problem}`;
}

async function label(file) {
  if (!session) return;
  at("said").textContent = "Looking …";
  document.body.removeAttribute("data-done");
  try {
    const picture = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    const scale = Math.min(1, MOST / Math.max(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext("2d", { alpha: false });
    pen.fillRect(0, 0, width, height); // black, under what is transparent
    pen.drawImage(picture, 0, 0, width, height);
    const { data } = pen.getImageData(0, 0, width, height);
    const pixels = new Uint8Array(width * height * 3);
    for (let i = 0, j = 0; i < data.length; i += 4) {
      pixels[j++] = data[i]; pixels[j++] = data[i + 1]; pixels[j++] = data[i + 2];
    }
    const started = performance.now();
    const found = await session.run({ images: new ort.Tensor("uint8", pixels, [1, height, width, 3]) });
    last = { canvas, map: found.attention };
    show(found.probabilities.data);
    draw();
    at("said").textContent = `${Math.round(performance.now() - started)} ms. Drop another one.`;
    document.body.dataset.done = file.name;
  } catch (problem) {
    at("said").textContent = `${file.name} cannot be labelled: ${problem.message ?? problem}`;
  }
}

function show(shares) {
  const best = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 5);
  at("labels").replaceChildren(...best.map((place) => {
    const row = document.createElement("tr"), bar = document.createElement("i");
    bar.style.width = `${100 * shares[place]}%`;
    for (const [kind, what] of [["name", about.classes[place]], ["share", `${(100 * shares[place]).toFixed(1)} %`], ["bar", bar]]) {
      const cell = document.createElement("td");
      cell.className = kind;
      cell.append(what);
      row.append(cell);
    }
    return row;
  }));
  at("found").hidden = false;
}

// The view is the middle of the photograph, so the map lies over that; its darkness is what little counts.
function draw() {
  const { canvas, map } = last, shown = at("canvas"), pen = shown.getContext("2d");
  [shown.width, shown.height] = [canvas.width, canvas.height];
  pen.drawImage(canvas, 0, 0);
  at("look").hidden = !map;
  if (!map || !at("attention").checked) return;
  const [rows, columns] = map.dims.slice(1), most = Math.max(...map.data);
  const small = new OffscreenCanvas(columns, rows), dots = small.getContext("2d"), veil = dots.createImageData(columns, rows);
  map.data.forEach((value, i) => { veil.data[4 * i + 3] = 200 * (1 - value / most); });
  dots.putImageData(veil, 0, 0);
  const [width, height] = seen(canvas.width, canvas.height);
  const [left, top] = [(canvas.width - width) / 2, (canvas.height - height) / 2];
  pen.fillStyle = "rgb(0 0 0 / 78%)";
  pen.fillRect(0, 0, canvas.width, top); pen.fillRect(0, top + height, canvas.width, top);
  pen.fillRect(0, top, left, height); pen.fillRect(left + width, top, left, height);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, left, top, width, height);
}

function seen(width, height) {
  const [y, x] = about.resolution;
  if (about.resize === "SquareResize") return [width * about.share, height * about.share];
  const scale = Math.max(y / about.share / height, x / about.share / width);
  return [x / scale, y / scale];
}

at("attention").addEventListener("change", () => last && draw());
at("file").addEventListener("change", (event) => event.target.files[0] && label(event.target.files[0]));
const drop = at("drop");
drop.addEventListener("keydown", (event) => (event.key === "Enter" || event.key === " ") && at("file").click());
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) label(event.dataTransfer.files[0]);
  });
}
document.body.dataset.ready = session ? "yes" : "no";
