// A hairline and a line of text for the place under the pointer; the page is complete without it.
for (const timeline of document.querySelectorAll(".timeline")) {
  const track = timeline.querySelector(".bands"), hair = timeline.querySelector(".hair");
  const readout = timeline.querySelector(".readout"), rest = readout.textContent;
  const start = Number(timeline.dataset.start), stop = Number(timeline.dataset.stop);
  const bands = [...timeline.querySelectorAll(".band")].map((band) => ({
    left: parseFloat(band.style.left), width: parseFloat(band.style.width), hint: band.title,
  }));
  const clock = (seconds) => {
    const ms = Math.round(Math.abs(seconds) * 1000), pad = (n, k) => String(n).padStart(k, "0");
    const text = [Math.floor(ms / 3600000), pad(Math.floor(ms / 60000) % 60, 2),
      `${pad(Math.floor(ms / 1000) % 60, 2)}.${pad(ms % 1000, 3)}`].join(":");
    return seconds < 0 ? `-${text}` : text;
  };
  timeline.addEventListener("pointermove", (event) => {
    const box = track.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
    if (share < 0 || share > 1) return;
    const band = bands.find((b) => b.left <= share * 100 && share * 100 < b.left + b.width);
    hair.style.display = "block";
    hair.style.left = `${event.clientX - timeline.getBoundingClientRect().left}px`;
    readout.textContent = `${clock(start + share * (stop - start))}  ${band ? band.hint : "no outcome"}`;
  });
  timeline.addEventListener("pointerleave", () => {
    hair.style.display = "none";
    readout.textContent = rest;
  });
}
