"""A learner of each family, each in one small file: they prove that the protocol holds them."""
