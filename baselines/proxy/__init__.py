"""Methods that learn a proxy of each class, with the network, and draw samples to the proxies of their classes."""
