// The server's API.

/** An error that the server answered, with its code and the field at fault. */
export class APIError extends Error {
  constructor(status, body) {
    const error = body?.error ?? {};
    const text = error.message ?? `The server answered ${status}.`;
    super(text.charAt(0).toUpperCase() + text.slice(1));
    this.name = "APIError";
    this.code = error.code;
    this.param = error.param;
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?", { cause: error });
  }
  if (!response.ok) throw new APIError(response.status, await response.json().catch(() => null));
  return response;
}

const json = async (path, options) => (await request(path, options)).json();
const send = (method, body, signal) => ({ method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

export const model = async () => (await json("v1/models")).data[0];
export const listConcepts = (after) => json(`v1/concepts?limit=20${after ? `&after=${encodeURIComponent(after)}` : ""}`);
export const changeConcept = (concept, change) => json(concept.url, send("PATCH", change));
export const getConcept = (concept) => json(concept.url);
export const listVersions = async (concept) => (await json(`${concept.url}/versions`)).data;
export const restoreConcept = (concept, version) => json(`${concept.url}/restore`, send("POST", { version }));
export const deleteConcept = (concept) => json(concept.url, { method: "DELETE" });

/** Makes a concept of photos; it has timings_ms unless it was stored already. */
export function createConcept(photos, word, name) {
  const form = new FormData();
  form.set("word", word);
  if (name) form.set("name", name);
  for (const photo of photos) form.append("image", photo);
  return json("v1/concepts", { method: "POST", body: form });
}

/** Makes a concept of a LoRA, an embedding or a downloaded concept; its word is the file's. */
export function importFile(file) {
  const form = new FormData();
  form.set("name", file.name.replace(/\.safetensors$/i, "").slice(0, 64));
  form.set("file", file);
  return json("v1/concepts", { method: "POST", body: form });
}

/** Asks for a tuning of a concept; the answer is a job. */
export function tuneConcept(concept, photos, settings) {
  const form = new FormData();
  for (const [name, value] of Object.entries(settings)) form.set(name, value);
  for (const photo of photos) form.append("image", photo);
  return json(`${concept.url}/tune`, { method: "POST", body: form });
}

export const cancelJob = (job) => json(job.url, { method: "DELETE" });

/** Follows a job, calling on(event) for each of its events. It ends when the job does; connections that are cut are taken up again. */
export function followJob(job, on) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(job.events_url);
    const take = (event) => on(JSON.parse(event.data));
    source.addEventListener("job", take);
    source.addEventListener("step", take);
    source.addEventListener("message", () => { // [DONE]
      source.close();
      resolve();
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) reject(new Error("The job is lost: the server was started again, or has forgotten it."));
    });
  });
}

/** Draws one picture and returns it as a URL. */
export async function drawOne(prompt, seed) {
  const { data } = await json("v1/images/generations", send("POST", { prompt, seed }));
  return `data:image/png;base64,${data[0].b64_json}`;
}

function editForm(body, edit) {
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) form.set(name, value);
  form.set("image", edit.image);
  if (edit.mask) form.set("mask", edit.mask);
  if (edit.strength) form.set("strength", edit.strength);
  return form;
}

/** Draws pictures, from a picture where there is an edit, calling on(event) for each event of the stream until its end. */
export async function generate(body, edit, on, signal) {
  const streamed = { ...body, stream: true };
  const response = edit
    ? await request("v1/images/edits", { method: "POST", body: editForm(streamed, edit), signal })
    : await request("v1/images/generations", send("POST", streamed, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The connection ended before the pictures were finished.");
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (!data) continue;
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new APIError(response.status, event);
      on(event);
    }
  }
}
