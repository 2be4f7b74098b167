"""Model families: the only files that name the attributes of diffusers' pipelines."""
