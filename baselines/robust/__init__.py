"""Methods that train against adversarial images."""
