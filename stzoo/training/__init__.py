"""Training: the loop on Accelerate, its options, its run folders. Imported only when something is trained."""
