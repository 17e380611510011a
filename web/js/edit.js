// Editing a picture: a mask painted over it says what is drawn anew. It is kept as strokes, in pixels of the picture.
import { byId } from "./element.js";
import { toast } from "./toast.js";

const maxSide = 1536; // of an uploaded picture; a larger one is reduced
const defaults = { whole: 80, masked: 100 }; // percent, the server's own
let strokes = []; // of { width, points: [[x, y], …] }
let painting = null; // the stroke under the pointer
let cursor = [0, 0]; // the brush's place, for the keyboard
let strengthSet = false;

const picture = () => byId("edit-picture");
const mask = () => byId("edit-mask");
const brushWidth = () => (byId("brush").value / 100) * mask().width;

/** Sets the editor and the button that opens a file in it up. */
export function setUpEdit() {
  const file = byId("edit-file");
  file.addEventListener("change", () => {
    if (file.files.length) startEdit(file.files[0]);
    file.value = "";
  });
  byId("edit-close").addEventListener("click", () => {
    byId("edit").hidden = true;
    byId("prompt").focus();
  });
  byId("undo").addEventListener("click", undo);
  byId("clear").addEventListener("click", () => setStrokes([]));
  byId("brush").addEventListener("input", showBrush);
  byId("change").addEventListener("input", () => {
    strengthSet = true;
    showStrength();
  });
  setUpPointer(mask());
  mask().addEventListener("keydown", steer);
}

/** Opens a picture, a Blob, in the editor. */
export async function startEdit(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    return toast("This file cannot be shown. Choose a PNG, JPEG or WebP picture.", "error");
  }
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  for (const canvas of [picture(), mask()]) {
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  }
  picture().getContext("2d").drawImage(bitmap, 0, 0, picture().width, picture().height);
  bitmap.close();
  byId("easel").style.setProperty("--aspect", picture().width / picture().height);
  cursor = [mask().width / 2, mask().height / 2];
  strengthSet = false;
  byId("edit").hidden = false;
  setStrokes([]);
  showBrush();
  byId("edit").scrollIntoView({ block: "nearest", behavior: "smooth" });
  mask().focus({ preventScroll: true });
}

/** The picture being edited: { image, mask, strength, aspect }, or null. Without strokes it has no mask; strength is there if it was set. */
export async function readEdit() {
  if (byId("edit").hidden) return null;
  const { width, height } = picture();
  const edit = { image: await png(picture()), aspect: `${width} / ${height}` };
  if (strokes.length > 0) {
    const sheet = document.createElement("canvas");
    [sheet.width, sheet.height] = [width, height];
    const pen = sheet.getContext("2d");
    pen.fillRect(0, 0, width, height);
    draw(pen, "#fff");
    edit.mask = await png(sheet);
  }
  if (strengthSet) edit.strength = byId("change").value / 100;
  return edit;
}

const png = (canvas) =>
  new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large for this browser."))), "image/png");
  });

function draw(pen, colour) {
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = colour;
  for (const { width, points } of strokes) {
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(points[0][0] - 0.01, points[0][1]); // a line of no length draws no dot
    for (const point of points) pen.lineTo(...point);
    pen.stroke();
  }
}

function setStrokes(next) {
  strokes = next;
  const pen = mask().getContext("2d");
  pen.clearRect(0, 0, mask().width, mask().height);
  draw(pen, getComputedStyle(mask()).color);
  const none = strokes.length === 0;
  if (none && [byId("undo"), byId("clear")].includes(document.activeElement)) mask().focus();
  byId("undo").disabled = byId("clear").disabled = none;
  byId("edit-hint").textContent = none
    ? "Paint over what should change. If nothing is painted, the whole picture is drawn anew from itself."
    : "What is painted is drawn anew as the prompt says, the rest stays as it is.";
  showStrength();
}

function undo() {
  setStrokes(strokes.slice(0, -1));
}

function showStrength() {
  if (!strengthSet) byId("change").value = strokes.length > 0 ? defaults.masked : defaults.whole;
  byId("change-value").value = `${byId("change").value} %`;
}

function showBrush() {
  byId("brush-value").value = `${byId("brush").value} %`;
  const ring = byId("ring").style;
  ring.width = `${byId("brush").value}%`;
  ring.left = `${(cursor[0] / mask().width) * 100}%`;
  ring.top = `${(cursor[1] / mask().height) * 100}%`;
}

function setUpPointer(canvas) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || painting) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = place(event);
    painting = { id: event.pointerId, stroke: { width: brushWidth(), points: [cursor] } };
    setStrokes([...strokes, painting.stroke]);
    showBrush();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (painting && painting.id !== event.pointerId) return;
    cursor = place(event);
    showBrush();
    if (!painting) return;
    painting.stroke.points.push(...event.getCoalescedEvents().map(place), cursor);
    setStrokes(strokes);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => {
      if (painting?.id === event.pointerId) painting = null;
    });
  }
}

const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The keyboard: arrows move the brush, with Shift painting, Space paints a dot, Ctrl Z takes a stroke back. */
function steer(event) {
  const step = brushWidth() / 2;
  if (event.key === " " || event.key === "Enter") {
    setStrokes([...strokes, { width: brushWidth(), points: [cursor] }]);
  } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    undo();
  } else if (arrows[event.key]) {
    const within = (v, most) => Math.min(Math.max(v, 0), most);
    const [dx, dy] = arrows[event.key];
    const from = cursor;
    cursor = [within(cursor[0] + dx * step, mask().width), within(cursor[1] + dy * step, mask().height)];
    if (event.shiftKey) setStrokes([...strokes, { width: brushWidth(), points: [from, cursor] }]);
    showBrush();
  } else {
    return;
  }
  event.preventDefault();
}
