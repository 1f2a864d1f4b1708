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

function beyond(step, accepts = () => true) {
  const shown = cases.filter(place => !place.hidden), at = shown.indexOf(current);
  for (let k = at + step; k >= 0 && k < shown.length; k += step) if (accepts(shown[k])) return shown[k];
  return null;
}

const isUnmarked = place => !place.querySelector("[data-mark][aria-pressed=true]");
const markOf = {0: "", 1: "pass", 2: "fail", 3: "artefact"};
onKey((key, event) => {
  const viewing = document.getElementById("viewer").open;
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
  for (const {isIntersecting, target} of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    const {sheet} = dataOf(target);
    for (const image of target.querySelectorAll("image")) image.setAttribute("href", sheet);
  }
}, {rootMargin: "1000px"});
for (const place of cases) {
  if (place.querySelector(".data")) watcher.observe(place);
  place.addEventListener("focusin", () => choose(place));
}
if (cases.length) choose(cases[0]);
show();
