"use strict";
// A heading sorts its table: by number where both cells hold one, else by text; cells without a value come last.
function sortBy(table, column, descending) {
  const key = (row) => row.cells[column].dataset.value ?? "";
  const compare = (one, other) => {
    const a = key(one), b = key(other);
    if (a === "" || b === "") return (a === "") - (b === "");
    const number = Number(a) - Number(b);
    const order = Number.isNaN(number) ? a.localeCompare(b, "en", { numeric: true }) : number;
    return descending ? -order : order;
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const number = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      // The first click shows what one looks for: large numbers, small ranks, or the start of the alphabet.
      const descending = now ? now === "ascending" : number && !head.classList.contains("rising");
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, head.cellIndex, descending);
    });
  }
}
