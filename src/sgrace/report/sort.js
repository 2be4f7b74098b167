document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), at = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th").forEach(each => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => row.cells[at].dataset.value === undefined ? null : +row.cells[at].dataset.value;
  const order = (a, b) => value(a) === null ? 1 : value(b) === null ? -1 : (value(a) - value(b)) * (up ? 1 : -1);
  const body = table.tBodies[0];
  [...body.rows].sort(order).forEach(row => body.append(row));
}));
