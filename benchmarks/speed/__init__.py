"""Time, memory and size: trainings, predictions, commands, beside their peers."""
