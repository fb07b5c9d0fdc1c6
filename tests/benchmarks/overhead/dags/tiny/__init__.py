"""The benchmark's training code, shared by the script and the pipeline."""
