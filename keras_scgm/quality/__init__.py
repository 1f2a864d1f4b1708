"""How far a mask can be trusted, from the mask and the image alone: features, predicted Dice coefficient, verdicts."""
