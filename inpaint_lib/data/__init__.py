"""Find or draw the images, pack them with frozen test masks, load them onto the device."""
