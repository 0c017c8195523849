"""Time, memory and size of trainings, predictions and commands, compared with peers."""
