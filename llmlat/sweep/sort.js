"use strict";
// Sorts a table by the column whose heading is pressed; pressed again, the other way round. Blanks stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, place) => row.cells[place].dataset.value;
  const inOrder = (a, b, numeric) =>
    numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
  heads.forEach((head, place) => {
    const numeric = head.dataset.kind === "number";
    head.firstElementChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one, place), value(other, place)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return (down ? -1 : 1) * inOrder(a, b, numeric);
      });
      body.append(...rows);
    });
  });
}
