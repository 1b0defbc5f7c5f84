"""The images: found or drawn, packed once with frozen test masks, and fed to the device."""
