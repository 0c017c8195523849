// Start and stop trainings, and show their progress.
"use strict";

const STATES = { merging: "merging labels", training: "training", scanning: "searching the images", judging: "predicting" };
const running = (on) => {
  $("train").hidden = on;
  for (const id of ["stop", "bar", "line"]) $(id).hidden = !on;
};

async function follow() {
  try {
    const { training } = await ask("/progress");
    if (!training.running) { location.reload(); return; }
    running(true);
    $("elapsed").textContent = `${STATES[training.state] || training.state}, ${Math.round(training.seconds)} s`;
    $("line").textContent = training.line || "…";
  } catch { /* try again */ }
  setTimeout(follow, 1000);
}

$("train").addEventListener("click", async () => {
  $("train").disabled = true;
  try {
    const { number } = await post("/train", {});
    $("training").textContent = "";
    say(`Training ${number} has started.`);
    running(true);
    $("line").textContent = "Merging the labels.";
    follow();
  } catch (error) { notice(error.message); }
  $("train").disabled = false;
});
$("stop").addEventListener("click", async () => {
  $("stop").disabled = true;
  try { await post("/stop", {}); } catch (error) { notice(error.message); }
  location.reload();
});
if (page.running) follow();
