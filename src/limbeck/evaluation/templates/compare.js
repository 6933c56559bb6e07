// Shows one image of two grids at full size, side by side or under a slider; small images keep their pixels.
for (const viewer of document.querySelectorAll(".compare")) {
  const grid = (name) => document.querySelector(`img[data-row="${CSS.escape(viewer.dataset[name])}"]`);
  const [left, right] = [grid("left"), grid("right")];
  const [index, view, share, position] = [".index", ".view", ".share", ".position"].map((s) => viewer.querySelector(s));
  const names = viewer.querySelector(".names");
  const canvas = viewer.querySelector("canvas"), context = canvas.getContext("2d");
  const columns = Number(left.dataset.columns), gap = 8, least = 256;

  const draw = () => {
    const tile = left.naturalWidth / columns, count = columns * Math.round(left.naturalHeight / tile);
    index.max = count;
    const number = Math.min(Math.max(Math.round(Number(index.value)) || 1, 1), count) - 1;
    const zoom = Math.max(1, Math.ceil(least / tile)), side = tile * zoom, beside = view.value === "beside";
    const from = [(number % columns) * tile, Math.floor(number / columns) * tile];
    share.hidden = beside;
    names.hidden = !beside;
    canvas.width = beside ? 2 * side + gap : side;
    canvas.height = side;
    names.style.maxWidth = `${canvas.width}px`;
    context.imageSmoothingEnabled = zoom === 1;
    const part = beside ? 1 : Number(position.value) / 100;
    context.drawImage(left, ...from, tile * part, tile, 0, 0, side * part, side);
    if (beside) {
      context.drawImage(right, ...from, tile, tile, side + gap, 0, side, side);
    } else if (part < 1) {
      context.drawImage(right, from[0] + tile * part, from[1], tile * (1 - part), tile, side * part, 0, side * (1 - part), side);
      context.fillStyle = "#fff";
      context.fillRect(side * part - 1, 0, 2, side);
    }
  };

  canvas.addEventListener("pointermove", (event) => {
    if (view.value === "slider") {
      position.value = (100 * event.offsetX) / canvas.clientWidth;
      draw();
    }
  });
  for (const control of [index, view, position]) control.addEventListener("input", draw);
  Promise.all([left.decode(), right.decode()]).then(() => {
    viewer.hidden = false;
    draw();
  });
}
