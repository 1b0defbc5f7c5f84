"""What finished networks, and fillings that need no training, are worth: measures, FID, and the networks these need."""
