"""Networks: backbones, the backbone with its head, and the model of a method with its network."""
