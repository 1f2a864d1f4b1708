// Keys without modifiers, while no text is being written.
function onKey(act) {
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input[type=text], select")) return;
    act(event.key, event);
  });
}

const toggle = name =>
  document.getElementById(name).setAttribute("aria-pressed", document.body.classList.toggle(name));
const switches = {f: "flicker", c: "bare", o: "no-cord"};
for (const name of Object.values(switches))
  document.getElementById(name)?.addEventListener("click", () => toggle(name));
onKey(key => {
  if (key in switches && document.getElementById(switches[key])) toggle(switches[key]);
});
document.querySelectorAll(".mosaic svg").forEach(svg => svg.addEventListener("click", () => svg.classList.toggle("bare")));
