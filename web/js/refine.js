// Refining a concept by some steps of training: a live curve, pictures before and after, and its versions.
import * as api from "./api.js";
import { updateConcept } from "./concepts.js";
import { Curve } from "./curve.js";
import { byId, make } from "./element.js";
import { readRequest } from "./prompt.js";
import { complain, toast } from "./toast.js";

const previews = 4; // in a run
const seed = 1; // of the pictures before and after

const photos = new Map(); // of this visit: concept id → files
let limits = { max_tuning_photos: 20, tuning_methods: [] };
let concept = null; // that the dialog is about
let job = null; // that runs

/** Keeps the photos that a concept was made of, for this visit. */
export function remember({ id }, files) {
  if (files.length > 0) photos.set(id, files);
}

/** Sets the dialog up. */
export function setUpRefine(model) {
  model.then((m) => {
    limits = m;
    byId("refine-method").replaceChildren(...m.tuning_methods.map(({ name, title }) => make("option", { value: name }, title)));
    showMethod();
  }, () => {});
  const files = byId("refine-files");
  files.addEventListener("change", () => {
    const chosen = [...files.files].filter((file) => file.type.startsWith("image/"));
    files.value = "";
    if (chosen.length > limits.max_tuning_photos) toast(`Up to ${limits.max_tuning_photos} photos are learned from; the rest was left out.`, "error");
    remember(concept, chosen.slice(0, limits.max_tuning_photos));
    showPhotos();
  });
  byId("refine-method").addEventListener("change", showMethod);
  byId("refine-form").addEventListener("submit", (event) => {
    event.preventDefault();
    refine(concept);
  });
  byId("refine-stop").addEventListener("click", () => job && api.cancelJob(job).catch(complain));
  byId("refine-close").addEventListener("click", () => byId("refine").close());
  byId("refine").addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.stopPropagation(); // it closes the dialog and cancels no pictures
  });
}

/** Opens the dialog on a concept; one that is being refined keeps it. */
export function openRefine(chosen) {
  if (!job && concept?.id !== chosen.id) {
    concept = chosen;
    byId("refine-state").textContent = "";
    byId("refine-curve").hidden = byId("refine-pictures").hidden = true;
  }
  byId("refine-title").textContent = `Refine ${concept.name || concept.word}`;
  showPhotos();
  showVersions(concept);
  byId("refine").showModal();
}

const method = () => limits.tuning_methods.find(({ name }) => name === byId("refine-method").value);

function showMethod() {
  byId("refine-help").textContent = method() ? `It ${method().help}.` : "";
  byId("refine-text-label").hidden = !method()?.text_encoder;
}

const files = () => photos.get(concept.id) ?? [];

function showPhotos() {
  const n = files().length;
  byId("refine-photos").textContent = n === 0 ? `One to ${limits.max_tuning_photos} photos of this person are needed.` : n === 1 ? "1 photo" : `${n} photos`;
  byId("refine-start").disabled = job !== null || n === 0;
}

function setRunning(running) {
  job = running;
  byId("refine-stop").hidden = running === null;
  for (const id of ["refine-files", "refine-method", "refine-steps", "refine-resolution", "refine-memory", "refine-text"]) byId(id).disabled = running !== null;
  showPhotos();
}

const setState = (text) => (byId("refine-state").textContent = text);

/** What is drawn before and after: the prompt of the page where it names the concept. */
function prompt({ id, word }) {
  const own = readRequest().prompt;
  const named = own.replaceAll(`<${word}>`, `<${id}>`).replaceAll(`<${word}:`, `<${id}:`);
  return named !== own ? named : `an illustration of <${id}>`;
}

const number = (id) => Math.round(Number(byId(id).value));

/** What is asked for; what is left empty is the method's own. */
function readSettings() {
  const settings = { method: byId("refine-method").value };
  const [steps, resolution] = [number("refine-steps"), number("refine-resolution")];
  if (steps > 0) settings.steps = steps;
  if (resolution > 0) settings.resolution = resolution;
  if (byId("refine-memory").checked) settings.memory = "low";
  if (method().text_encoder && byId("refine-text").checked) settings.text_encoder = true;
  settings.preview_every = Math.max(1, Math.floor((steps || method().steps) / previews));
  return settings;
}

async function refine(chosen) {
  if (job || files().length === 0) return;
  const what = prompt(chosen);
  const settings = readSettings();
  setRunning({});
  setState("Drawing it as it is…");
  try {
    const [before, during, after] = showPictures();
    before.show(await api.drawOne(what, seed));
    const asked = await api.tuneConcept(chosen, files(), settings);
    setRunning(asked);
    const last = await follow(asked, during);
    if (last.status !== "succeeded") return;
    const tuned = await api.getConcept(chosen);
    concept = tuned;
    updateConcept(tuned);
    after.show(await api.drawOne(what, seed));
    if (last.result.note) toast(last.result.note);
  } catch (error) {
    setState(error.message); // where it is seen: the dialog covers the page's messages
    console.error(error);
  } finally {
    setRunning(null);
    showVersions(concept);
  }
}

/** Shows a job's events until its end, and returns the last. */
async function follow(asked, picture) {
  const curve = new Curve(byId("refine-curve"));
  let last = asked;
  setState(asked.queue > 0 ? `Waiting: ${asked.queue} before it` : "Starting…");
  await api.followJob(asked, (event) => {
    if (event.type === "step") {
      curve.add(event);
      if (event.b64_json) picture.show(`data:image/png;base64,${event.b64_json}`);
      setState(`Step ${event.step} of ${event.steps} · ${Math.ceil(event.seconds_left)} s left`);
      return;
    }
    last = event;
    if (event.status === "running") {
      curve.clear();
      setState(event.attempt > 1 ? `The worker was lost; attempt ${event.attempt} of ${event.max_attempts}…` : "Reading model and photos…");
    }
  });
  if (last.result) setState(`Refined: the best of ${last.result.steps} steps was ${last.result.best_step}, in ${last.result.seconds.toFixed(1)} s`);
  else setState(last.error ? `Failed: ${last.error.message}` : "Stopped");
  return last;
}

/** Makes places for three pictures. */
function showPictures() {
  const place = (label) => {
    const image = make("img", { alt: label, hidden: true });
    const figure = make("figure", {}, make("div", { className: "place" }, image), make("figcaption", {}, label));
    return {
      figure,
      show(url) {
        image.src = url;
        image.hidden = false;
      },
    };
  };
  const places = ["Before", "On the way, a plain portrait", "After"].map(place);
  byId("refine-pictures").replaceChildren(...places.map(({ figure }) => figure));
  byId("refine-pictures").hidden = false;
  return places;
}

async function showVersions(chosen) {
  try {
    const versions = (await api.listVersions(chosen)).sort((a, b) => b.version - a.version);
    byId("refine-versions").hidden = versions.length < 2;
    byId("versions").replaceChildren(...versions.map((v) => {
      const label = `Version ${v.version + 1} · ${v.method} · ${new Date(v.created * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`;
      const restore = make("button", { type: "button", className: "quiet", "aria-label": `Restore version ${v.version + 1}`, onclick: () => bringBack(chosen, v.version) }, "Restore");
      return make("li", {}, make("span", {}, label), v.current ? make("span", {}, "in use") : restore);
    }));
  } catch (error) {
    complain(error);
  }
}

async function bringBack(chosen, version) {
  try {
    concept = await api.restoreConcept(chosen, version);
    updateConcept(concept);
    setState(`Version ${version + 1} is in use`);
    await showVersions(concept);
    byId("refine-close").focus();
  } catch (error) {
    complain(error);
  }
}
