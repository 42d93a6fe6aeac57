"use strict";
// Tables sort by the header that is pressed: once upwards, again downwards. Rows without a value stay at the end.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const table = header.closest("table");
    const column = [...header.parentNode.children].indexOf(header);
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.children) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.v;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
}

// A trial under the pointer is lit up wherever it is drawn. A click keeps it lit, Escape or a click elsewhere lets go.
let kept = "";
function light(of) {
  document.body.classList.toggle("lit", of !== "");
  for (const mark of document.querySelectorAll("[data-of]")) mark.classList.toggle("on", mark.dataset.of === of);
}
const trial = (event) => event.target.closest?.("[data-of]")?.dataset.of ?? "";
document.addEventListener("pointerover", (event) => light(trial(event) || kept));
document.addEventListener("click", (event) => {
  kept = trial(event) === kept ? "" : trial(event);
  light(kept);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") light((kept = ""));
});

// What is folded away is printed all the same.
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
