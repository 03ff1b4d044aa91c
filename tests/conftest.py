"""Every test runs on one torch thread, as a serving process does, and checks tensor shapes at run time."""

import torch

torch.set_num_threads(1)
