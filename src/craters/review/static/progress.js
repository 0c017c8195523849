// Starts and stops trainings, and follows them.
"use strict";

const running = (on) => {
  $("train").hidden = on;
  for (const id of ["stop", "bar", "line"]) $(id).hidden = !on;
};

async function follow() {
  try {
    const found = await ask("/progress");
    const { training, predicting } = found;
    const judging = predicting.done < predicting.total && !predicting.failure;
    if (!training.running) { location.reload(); return; }
    running(true);
    $("elapsed").textContent = `${training.state}, ${Math.round(training.seconds)} s`;
    $("line").textContent = judging && training.state === "training" && !training.line ? "…" : training.line;
  } catch { /* the next one may come through */ }
  setTimeout(follow, 1000);
}

$("train").addEventListener("click", async () => {
  $("train").disabled = true;
  try {
    const { number } = await tell("/train", {});
    $("training").textContent = "";
    say(`Training ${number} has begun.`);
    running(true);
    $("line").textContent = "Merging the labels.";
    follow();
  } catch (error) { notice(error.message); }
  $("train").disabled = false;
});
$("stop").addEventListener("click", async () => {
  $("stop").disabled = true;
  try { await tell("/stop", {}); } catch (error) { notice(error.message); }
  location.reload();
});
if (page.running) follow();
