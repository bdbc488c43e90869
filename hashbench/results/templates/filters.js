// Filters hide what has another value: sections, what is about a row of their tables, and columns.
const filters = document.getElementById("filters");
const selects = [...filters.querySelectorAll("select")];
function matches(element) {
  return selects.every((select) => {
    const value = element.dataset[select.name];
    return select.value === "" || value === undefined || value === select.value;
  });
}
function apply() {
  for (const section of document.querySelectorAll("section.filtered")) {
    for (const element of section.querySelectorAll("tbody tr, details.cell, th[data-bits], td[data-bits]")) {
      element.hidden = !matches(element);
    }
    const columns = [...section.querySelectorAll("th[data-bits]")];
    const rows = [...section.querySelectorAll("tbody tr")];
    const some = columns.some((column) => !column.hidden) && rows.some((row) => !row.hidden);
    section.hidden = !(matches(section) && some);
  }
}
filters.hidden = false;
filters.addEventListener("change", apply);
filters.querySelector("button").addEventListener("click", () => {
  for (const select of selects) select.value = "";
  apply();
});
apply();
