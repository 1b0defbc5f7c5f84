"""The images: drawn, found and read, packed once with their frozen test masks, and fed to the device."""
