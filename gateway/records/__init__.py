"""Small values that requests leave for later ones, whichever process serves these."""
