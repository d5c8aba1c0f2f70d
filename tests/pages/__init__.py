"""The READMEs: what they say is what the code says."""
