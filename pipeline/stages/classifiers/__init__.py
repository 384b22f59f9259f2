"""Text classifiers in fastText's own format: trained on labelled texts, applied to documents."""
