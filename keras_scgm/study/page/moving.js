// The row being worked on, and pictures of the rows near the window.
let current = null;

function choose(place) {
  current?.classList.remove("current");
  current = place;
  current.classList.add("current");
}

function go(place) {
  if (!place) return;
  choose(place);
  place.scrollIntoView();
  place.focus({preventScroll: true});
}

function isInView(place) {
  const {top, bottom} = place.getBoundingClientRect();
  return bottom > document.querySelector(".bar").offsetHeight && top < innerHeight;
}

function beyond(step, accepts = () => true) {
  const shown = cases.filter(place => !place.hidden), at = shown.indexOf(current);
  for (let k = at + step; k >= 0 && k < shown.length; k += step) if (accepts(shown[k])) return shown[k];
  return null;
}

const isUnmarked = place => !place.querySelector("[data-mark][aria-pressed=true]");
const markOf = {0: "", 1: "pass", 2: "fail", 3: "artefact"};
onKey((key, event) => {
  const viewing = dialog.open;
  // After scrolling the keys belong to the uppermost row on the screen, and no row is marked unseen.
  if (!viewing && current && !isInView(current)) {
    choose(cases.find(place => !place.hidden && isInView(place)) ?? current);
    if (key in markOf) return go(current);
  }
  if (key in markOf && current) return change(current, {mark: markOf[key]});
  if (viewing) return;
  if (["j", "ArrowDown"].includes(key)) go(beyond(1));
  else if (["k", "ArrowUp"].includes(key)) go(beyond(-1));
  else if (key === "n") go(beyond(1, isUnmarked) ?? cases.find(place => !place.hidden && isUnmarked(place)));
  else if (key === "m" && current) current.querySelector(".comment").focus();
  else if (key === "v" && current) current.querySelector(".open")?.click();
  else return;
  event.preventDefault();
});

const dataOf = place => JSON.parse(place.querySelector(".data").textContent);
const watcher = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) load(target);
}, {rootMargin: "1000px"});

function load(place) {
  watcher.unobserve(place);
  const {sheet} = dataOf(place);
  for (const image of place.querySelectorAll("image")) image.setAttribute("href", sheet);
}

const pictured = cases.filter(place => place.querySelector(".data"));
window.addEventListener("beforeprint", () => pictured.forEach(load));
for (const place of pictured) watcher.observe(place);
for (const place of cases) {
  place.addEventListener("focusin", () => choose(place));
}
if (cases.length) choose(cases[0]);
show();
