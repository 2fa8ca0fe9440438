"""Image and pixel metrics: AUROC, average precision, PRO, AUPIMO, counts, with bootstrap intervals."""
