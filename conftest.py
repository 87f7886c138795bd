"""One thread for all tests: their networks are small, and threads that wait for each other on a busy machine take many times longer."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once
