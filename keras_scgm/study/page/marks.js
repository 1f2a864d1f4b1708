// Marks of the images of this study, which the browser keeps; other pages of the study write the same item.
const study = document.body.dataset.study;
const ITEM = `keras-scgm quality ${study}`;
const cases = [...document.querySelectorAll(".case[data-image]")];
const trouble = document.getElementById("trouble");
let unkept = null;

function complain(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

function kept() {
  if (unkept) return unkept;
  try { return JSON.parse(localStorage.getItem(ITEM)) ?? {}; } catch { return {}; }
}

function keep(marks) {
  try {
    localStorage.setItem(ITEM, JSON.stringify(marks));
    complain("");
  } catch {
    unkept = marks;
    complain("This browser keeps no marks: export them before you close the page.");
  }
}

// Control characters would end a line of the exported files.
const plain = text => text.replace(/\p{C}+/gu, " ").trim();

function change(place, changes) {
  const marks = kept(), {image, mask} = place.dataset;
  const changed = {mark: "", comment: "", ...marks[image], ...changes, mask_sha256: mask, time: new Date().toISOString()};
  if (changed.mark || changed.comment) marks[image] = changed;
  else delete marks[image];
  keep(marks);
  show();
  if ("mark" in changes)
    document.getElementById("said").textContent = `${image.split("/").pop().replace(/\.nii(\.gz)?$/, "")}: ${nameOf(changes.mark)}`;
}

const nameOf = mark => mark || "no mark";

function show() {
  const marks = kept(), filter = document.getElementById("filter").value, counts = {pass: 0, fail: 0, artefact: 0};
  for (const place of cases) {
    const {mark = "", comment = "", mask_sha256} = marks[place.dataset.image] ?? {};
    for (const button of place.querySelectorAll("[data-mark]"))
      button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
    const field = place.querySelector(".comment");
    if (field !== document.activeElement) field.value = comment;
    place.querySelector(".stale").hidden = !mark || mask_sha256 === place.dataset.mask;
    // The row being worked on stays in sight when its mark no longer fits the filter.
    const fits = ["all", mark || "unmarked", `verdict ${place.dataset.verdict}`].includes(filter);
    place.hidden = !fits && !place.classList.contains("current");
    if (mark) counts[mark]++;
  }
  document.getElementById("viewer-mark").textContent = nameOf(marks[current?.dataset.image]?.mark);
  const n = counts.pass + counts.fail + counts.artefact;
  document.getElementById("counts").textContent =
    `${n} of ${cases.length} marked: ${counts.pass} pass, ${counts.fail} fail, ${counts.artefact} artefact`;
}

// What is written: marks of all pages of the study that this browser knows, by image.
function marked() {
  return Object.entries(kept()).filter(([, {mark}]) => mark).sort(([one], [other]) => (one < other ? -1 : 1));
}

function asYaml() {
  const entries = marked().map(([image, {mark, comment, mask_sha256 = "", time}]) =>
    [`  - image: ${JSON.stringify(image)}`, `    mark: ${JSON.stringify(mark)}`,
     `    comment: ${JSON.stringify(comment)}`, `    mask_sha256: ${JSON.stringify(mask_sha256)}`, `    time: ${JSON.stringify(time)}`].join("\n"));
  const head = "# Marks of the quality page. Images marked fail or artefact are left out with --exclude.";
  return `${head}\nmarks:${entries.length ? `\n${entries.join("\n")}` : " []"}\n`;
}

function asTable() {
  const rows = marked().map(([image, {mark, comment, mask_sha256, time}]) =>
    [image, mark, comment || "n/a", mask_sha256 || "n/a", time]);
  return [["image", "mark", "comment", "mask_sha256", "time"], ...rows].map(row => `${row.join("\t")}\n`).join("");
}

function save(name, text) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(new Blob([text], {type: "text/plain"}));
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Reads what `asYaml` writes; a mark of the file replaces one that was kept. Without a hash it is of the present mask.
function add(text) {
  const marks = kept(), masks = Object.fromEntries(cases.map(({dataset}) => [dataset.image, dataset.mask]));
  let entry = null, n = 0;
  for (const line of text.split("\n")) {
    const found = line.match(/^ {2}(- image|  mark|  comment|  mask_sha256|  time): (".*")\s*$/);
    if (!found) continue;
    const value = plain(JSON.parse(found[2]));
    if (found[1] === "- image") {
      entry = marks[value] = {mark: "", comment: "", mask_sha256: masks[value] ?? ""};
      n++;
    } else if (entry) entry[found[1].trim()] = value;
  }
  if (!n) return complain("No marks in this file: choose a qc.yml that a quality page has exported.");
  keep(marks);
  show();
}

for (const place of cases) {
  for (const button of place.querySelectorAll("[data-mark]"))
    button.addEventListener("click", () => {
      choose(place);
      change(place, {mark: button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.mark});
    });
  const field = place.querySelector(".comment");
  field.addEventListener("input", () => change(place, {comment: plain(field.value)}));
  field.addEventListener("keydown", event => {
    if (["Enter", "Escape"].includes(event.key)) place.focus({preventScroll: true});
  });
}
document.getElementById("export-yml").addEventListener("click", () => save("qc.yml", asYaml()));
document.getElementById("export-tsv").addEventListener("click", () => save("qc.tsv", asTable()));
document.getElementById("import").addEventListener("change", async ({target}) => {
  if (target.files.length) add(await target.files[0].text());
  target.value = "";
});
document.getElementById("filter").addEventListener("change", () => show());
window.addEventListener("storage", show);
