// Finished pictures: the viewer, downloads, and the earlier runs of this visit.
import { startEdit } from "./edit.js";
import { byId, make } from "./element.js";
import { writeRequest } from "./prompt.js";
import { zip } from "./zip.js";

const kept = 30; // runs
let viewed = { pictures: [], index: 0 };

/** Makes a URL and a Blob of a base64 PNG. */
export function pngURL(base64) {
  const blob = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" });
  return [URL.createObjectURL(blob), blob];
}

/** Sets the viewer's buttons and keys up. */
export function setUpGallery() {
  byId("viewer-before").addEventListener("click", () => turn(-1));
  byId("viewer-after").addEventListener("click", () => turn(1));
  byId("viewer-edit").addEventListener("click", () => {
    byId("viewer").close();
    startEdit(viewed.pictures[viewed.index].blob);
  });
  byId("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  byId("viewer").addEventListener("click", (event) => {
    if (event.target === byId("viewer")) byId("viewer").close();
  });
}

/** Shows one of several pictures large. */
export function openViewer(pictures, index) {
  viewed = { pictures, index };
  turn(0);
  byId("viewer").showModal();
}

function turn(by) {
  const { pictures } = viewed;
  viewed.index = (viewed.index + by + pictures.length) % pictures.length;
  const picture = pictures[viewed.index];
  byId("viewer-image").src = picture.url;
  byId("viewer-image").alt = picture.prompt;
  byId("viewer-caption").textContent = `${picture.prompt} · seed ${picture.seed}`;
  byId("viewer-download").href = picture.url;
  byId("viewer-download").download = `likeness-${picture.seed}.png`;
  byId("viewer-before").hidden = byId("viewer-after").hidden = pictures.length < 2;
}

/** Saves all pictures of a run as one file. */
export async function downloadAll(run) {
  const archive = await zip(run.pictures.map(({ blob, seed }) => ({ name: `likeness-${seed}.png`, blob })));
  const url = URL.createObjectURL(archive);
  const link = make("a", { href: url, download: "likeness.zip" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Puts a run at the top of the earlier ones. */
export function addRun(run) {
  const { request, pictures } = run;
  const thumbs = pictures.map((picture, i) =>
    make("button", { type: "button", "aria-label": `Look at picture ${i + 1} of ${request.prompt}`, onclick: () => openViewer(pictures, i) },
      make("img", { src: picture.url, alt: "", width: 84, height: 84 })));
  const again = make("button", { type: "button", className: "quiet", onclick: () => writeRequest(request, pictures[0].seed) }, "Use again");
  const runs = byId("runs");
  runs.prepend(make("li", { className: "run" }, make("div", { className: "what" }, make("p", {}, request.prompt), again), make("div", { className: "thumbs" }, ...thumbs)));
  byId("gallery").hidden = false;
  while (runs.children.length > kept) {
    for (const image of runs.lastElementChild.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    runs.lastElementChild.remove();
  }
}
