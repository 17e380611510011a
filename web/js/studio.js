// Drawing: from the form to finished pictures, with progress, previews and cancel.
import * as api from "./api.js";
import { readEdit, startEdit } from "./edit.js";
import { byId, duration, make } from "./element.js";
import { addRun, downloadAll, openViewer, pngURL } from "./gallery.js";
import { readRequest } from "./prompt.js";
import { complain, toast } from "./toast.js";

let running = null; // AbortController of the run
let shown = null; // the finished run in the tiles
let aspect = "1";

/** Sets the second step's buttons up. */
export function setUpStudio(model) {
  model.then((m) => (aspect = m.size.replace("x", " / ")), () => {});
  byId("draw").addEventListener("submit", (event) => {
    event.preventDefault();
    draw(readRequest());
  });
  byId("cancel").addEventListener("click", () => running?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !byId("viewer").open) running.abort();
  });
  byId("download-all").addEventListener("click", () => downloadAll(shown));
}

async function draw(request) {
  if (running) return;
  if (!request.prompt) {
    byId("prompt").focus();
    return toast("Write what the picture should show first.", "error");
  }
  const abort = (running = new AbortController());
  if (shown) addRun(shown);
  shown = null;
  const tiles = Array.from({ length: request.n }, (_, i) => new Tile(i));
  show(tiles);
  const start = performance.now();
  try {
    const edit = await readEdit();
    for (const tile of tiles) tile.shape(edit?.aspect ?? aspect);
    await api.generate({ ...request, partial_images: 2 }, edit, (event) => {
      tiles[event.index].take(event);
      showProgress(tiles, start);
    }, abort.signal);
    setState(`${tiles.length === 1 ? "One picture" : `${tiles.length} pictures`} in ${duration(performance.now() - start)}`);
    const dropped = Math.max(...tiles.map((tile) => tile.dropped));
    if (dropped > 0) toast("The prompt is longer than the model reads: its end was left out.");
  } catch (error) {
    setState(error.name === "AbortError" ? "Cancelled" : "");
    complain(error);
  } finally {
    running = null;
    finish(request, tiles);
  }
}

function show(tiles) {
  byId("nothing").hidden = true;
  byId("result").hidden = false;
  byId("tiles").setAttribute("aria-busy", "true");
  byId("tiles").replaceChildren(...tiles.map((tile) => tile.element));
  byId("download-all").hidden = true;
  byId("progress").hidden = false;
  byId("bar").removeAttribute("value");
  byId("generate").disabled = true;
  byId("cancel").hidden = false;
  setState("Starting…");
  byId("result").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

const setState = (text) => (byId("state").textContent = text);

function showProgress(tiles, start) {
  const done = tiles.reduce((sum, tile) => sum + tile.done, 0) / tiles.length;
  byId("bar").value = done;
  const waiting = Math.min(...tiles.map((tile) => tile.queue));
  if (done === 0) setState(waiting > 0 ? `Waiting: ${waiting} before yours` : "Starting…");
  else setState(`${Math.round(done * 100)} % · ${duration(performance.now() - start)}`);
}

function finish(request, tiles) {
  byId("tiles").removeAttribute("aria-busy");
  byId("progress").hidden = true;
  byId("generate").disabled = false;
  const hadFocus = document.activeElement === byId("cancel");
  byId("cancel").hidden = true;
  if (hadFocus) byId("generate").focus();
  const pictures = tiles.filter((tile) => tile.url).map(({ url, blob, seed }) => ({ url, blob, seed, prompt: request.prompt }));
  for (const tile of tiles) if (!tile.url) tile.fail();
  if (pictures.length === 0) {
    byId("result").hidden = true;
    byId("nothing").hidden = false;
    return;
  }
  shown = { request, pictures };
  for (const tile of tiles) tile.open = () => openViewer(pictures, pictures.findIndex((picture) => picture.url === tile.url));
  byId("download-all").hidden = pictures.length < 2;
}

/** One picture that forms. */
class Tile {
  done = 0; // 0 … 1
  queue = 0;
  dropped = 0;
  open = () => {};

  constructor(index) {
    this.index = index;
    this.image = make("img", { alt: "", hidden: true });
    this.view = make("button", { type: "button", className: "view", disabled: true, "aria-label": `Picture ${index + 1}, being drawn`, onclick: () => this.open() }, this.image);
    this.label = make("span", {}, "…");
    this.link = make("a", { className: "button off", "aria-label": `Download picture ${index + 1}` }, "Download");
    this.edit = make("button", { type: "button", className: "quiet off", "aria-label": `Edit picture ${index + 1}`, onclick: () => startEdit(this.blob) }, "Edit");
    this.element = make("div", { className: "tile forming" }, this.view, make("div", { className: "bar" }, this.label, this.edit, this.link));
    this.shape(aspect);
  }

  shape(ratio) {
    this.element.style.setProperty("--aspect", ratio);
  }

  take(event) {
    if (event.type === "progress") {
      this.queue = event.queue;
      this.done = Math.max(this.done, (0.96 * event.step) / event.steps);
      this.label.textContent = event.step === 0 ? "waiting" : `${event.step} / ${event.steps}`;
      return;
    }
    this.image.hidden = false;
    this.element.classList.add("seen");
    if (event.type.endsWith(".partial_image")) {
      this.image.src = `data:image/png;base64,${event.b64_json}`;
    } else if (event.type.endsWith(".completed")) {
      this.complete(event);
    }
  }

  complete(event) {
    this.done = 1;
    this.seed = event.seed;
    this.dropped = event.dropped_tokens ?? 0;
    [this.url, this.blob] = pngURL(event.b64_json);
    this.image.src = this.url;
    this.image.alt = `Picture ${this.index + 1}`;
    this.view.disabled = false;
    this.view.setAttribute("aria-label", `Look at picture ${this.index + 1}`);
    this.label.textContent = `seed ${event.seed}`;
    this.link.href = this.url;
    this.link.download = `likeness-${event.seed}.png`;
    this.link.classList.remove("off");
    this.edit.classList.remove("off");
    this.element.classList.remove("forming");
  }

  fail() {
    this.label.textContent = "not drawn";
    this.element.classList.add("failed");
  }
}
