"""The pretrained network on real images that it was not trained on."""
